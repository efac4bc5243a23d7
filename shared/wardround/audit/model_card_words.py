"""What stands on every model card, whatever the evidence says."""

LIMITS = (
    "It supports a decision and makes none: a clinician who knows the patient decides.",
    "Only for patients as the inputs below describe them, in these units and ranges.",
    "It is no medical device by this card: who uses it for patients has to have it approved.",
    "Its score is no risk at your hospital before it is calibrated there (`wardround predict` does "
    "that with the hospital's own held-out patients).",
    "It learned what goes together, not what causes what: changing an input treats nobody.",
)
VERIFY = (
    "`wardround audit verify bundle.zip` says whether the evidence is authentic, intact, complete "
    "and recomputed; give it the coordinator's fingerprint from elsewhere with --coordinator-key.",
    "The SHA-256 of report.json in the bundle is the `report` above.",
    "In report.json `study.digest` is the study's and `run.model_digest` the model's digest: both "
    "are the ones above.",
    "The SHA-256 of each file beside this card is the one above; an ONNX file names study, run, "
    "model and report in its metadata.",
)

TREATMENT = (
    "What it says of {treated} and {untreated} holds for patients like those of the study on "
    "average; what either would have done to one patient nobody can see.",
    "All other columns only describe patients: changing them treats nobody.",
    "A benefit that was predicted is no benefit that was observed: the report has both, and by "
    "`wardround predict` a recommendation only where they agree.",
)
SYNTHETIC = (
    "The risk model in it has learnt from synthetic records alone: compare it with one that learnt "
    "from patients before you rely on it.",
    "How common each class is was not learned: synthetic records come in equal parts of each.",
    "Records drawn from its generator are not anonymous for being synthetic, and nobody's care may "
    "rest on them.",
)
