"""The lies of `forgeries_entries` as tables: what is changed, and what has to come of it."""

# entry type [which one], field, the lie (JSON, or one of WORDS), verdict, code, log where it shows
COORDINATOR_LIES = """
study-opened         study_digest         F64          complete    other-study        coordinator
study-opened         run                  N32          authentic   run-key-signature  coordinator
study-opened         software             "0.0.9"      complete    history-differs    bergen
hospital-joined      hospital             "coimbra"    authentic   run-key-signature  coordinator
hospital-joined      session              E32          complete    join-missing       coordinator
hospital-joined      run_key.hospital     "zurich"     authentic   run-key-signature  coordinator
hospital-joined      run_key.run          N32          authentic   run-key-signature  coordinator
hospital-joined      run_key.session      N32          authentic   run-key-signature  coordinator
hospital-joined      run_key.public_key   H64          authentic   directory-differs  coordinator
hospital-joined      run_key.signature    H128         authentic   run-key-signature  coordinator
round-opened         transcript           F64          complete    entry-contradicts  coordinator
round-opened         spec.extra           1            complete    entry-contradicts  coordinator
round-opened         spec.scale           3            complete    entry-contradicts  coordinator
update-received      transcript           F64          complete    entry-contradicts  coordinator
update-received      hospital             "coimbra"    complete    entry-contradicts  coordinator
update-received      hospital             "oslo"       complete    entry-contradicts  coordinator
update-received      header.hospital      "coimbra"    authentic   update-signature   coordinator
update-received      header.transcript    F64          authentic   update-signature   coordinator
update-received      header.update_digest F64          complete    update-differs     bergen
update-received      header.extra         1            authentic   update-signature   coordinator
update-received      signature            H128         authentic   update-signature   coordinator
update-received      bytes                1            complete    history-differs    bergen
survivors-agreed     transcript           F64          complete    entry-contradicts  coordinator
survivors-agreed     survivors            []           complete    below-threshold    coordinator
survivors-agreed     survivors            WITHOUT      complete    survivors-differ   coordinator
survivors-agreed[1]  survivors            WITHOUT      complete    survivors-differ   leiden
survivors-agreed     survivors            TURNED       complete    survivors-differ   coordinator
survivors-agreed     survivors            OSLO         complete    sum-without-hospital coordinator
survivors-agreed     signatures           {}           complete    below-threshold    coordinator
survivors-agreed     signatures.zurich    H128         authentic   survivor-signature coordinator
survivors-agreed     signatures.oslo      H128         authentic   survivor-signature coordinator
round-closed         transcript           F64          complete    entry-contradicts  coordinator
round-closed         sum_digest           F64          complete    history-differs    bergen
round-closed         model_before         F64          complete    model-differs      coordinator
round-closed         model_after          F64          complete    model-differs      coordinator
evaluation-closed    transcript           F64          complete    entry-contradicts  coordinator
evaluation-closed    sum_digest           F64          recomputed  counts-differ      coordinator
evaluation-closed    counts               []           recomputed  counts-differ      coordinator
comparison           run                  N32          recomputed  comparison-differs coordinator
comparison           made_of              "one sum"    intact      body-malformed     coordinator
comparison           metric               "c_index"    recomputed  comparison-differs coordinator
comparison           metric               "accuracy"   intact      body-malformed     coordinator
comparison           ways                 []           intact      body-malformed     coordinator
comparison           ways.0.way           "pooled"     intact      body-malformed     coordinator
comparison           ways.0.epsilon       0.5          recomputed  comparison-differs coordinator
comparison           ways.2.epsilon       0.5          recomputed  comparison-differs coordinator
comparison           ways.2.epsilon       null         recomputed  comparison-differs coordinator
comparison           ways.0.whole.value   0.85         complete    history-differs    bergen
comparison           ways.0.whole.value   1.01         intact      body-malformed     coordinator
comparison           ways.0.whole.value   null         intact      body-malformed     coordinator
comparison           ways.0.whole.low     -0.1         recomputed  comparison-differs coordinator
comparison           ways.0.whole.low     null         intact      body-malformed     coordinator
comparison           ways.0.whole.high    0.5          intact      body-malformed     coordinator
comparison           ways.0.whole.patients 7           recomputed  comparison-differs coordinator
comparison           ways.0.whole.patients -1          intact      body-malformed     coordinator
comparison           ways.0.hospitals     {}           intact      body-malformed     coordinator
comparison           ways.1.hospitals.oslo SCORED      recomputed  comparison-differs coordinator
comparison           ways.1.hospitals.bergen SCORED    recomputed  comparison-differs coordinator
comparison           ways.1.hospitals.zurich.value 0.91 complete   history-differs    bergen
comparison           next_hospital        null         complete    history-differs    bergen
comparison           next_hospital.mean   0.1          intact      body-malformed     coordinator
comparison           next_hospital.hospitals 2         intact      body-malformed     coordinator
comparison           next_hospital.hospitals 4         recomputed  comparison-differs coordinator
comparison           next_hospital.prediction_high 1.5 intact      body-malformed     coordinator
run-closed           rounds               9            complete    end-differs        coordinator
run-closed           hospitals_completed  []           complete    end-differs        coordinator
run-closed           hospitals_completed  ["oslo"]     complete    end-differs        coordinator
run-closed           model                F64          complete    model-differs      coordinator
checkpoint-witnessed actor                "zurich"     complete    history-differs    bergen
checkpoint-witnessed size                 1            complete    history-differs    coordinator
checkpoint-witnessed size                 99           complete    history-shortened  coordinator
checkpoint-witnessed head                 F64          complete    history-differs    coordinator
hospital-missed      transcript           F64          complete    entry-contradicts  coordinator
hospital-missed      transcript           null         complete    absence-unnamed    coordinator
hospital-missed      hospital             "zurich"     complete    entry-contradicts  coordinator
hospital-missed      reason               "it is late" complete    history-differs    bergen
hospital-vanished    transcript           F64          complete    entry-contradicts  coordinator
hospital-vanished    hospital             "oslo"       complete    entry-contradicts  coordinator
hospital-vanished    hospital             "zurich"     complete    entry-contradicts  coordinator
hospital-vanished    hospital             "bergen"     complete    history-differs    bergen
hospital-vanished    stage                "revealed"   complete    history-differs    bergen
hospital-vanished[2] stage                "signed"     complete    survivors-differ   coordinator
share-rejected       transcript           F64          complete    entry-contradicts  coordinator
share-rejected       hospital             "oslo"       complete    entry-contradicts  coordinator
share-rejected       hospital             "bergen"     complete    history-differs    bergen
share-rejected       reason               "a fault"    complete    history-differs    bergen
attempt-void         transcript           F64          complete    entry-contradicts  coordinator
attempt-void         reason               "a fault"    complete    history-differs    bergen
"""

# A spec is hashed into every mask: all logs are told the new transcript.
SPEC_LIES = """
purpose            "evaluate"                              complete  entry-contradicts
run                N32                                     complete  spec-differs
session            N32                                     authentic directory-differs
study_digest       F64                                     complete  spec-differs
round              1                                       complete  round-order
round              7                                       complete  spec-differs
attempt            2                                       authentic update-signature
cohort             ["bergen","coimbra","zurich"]           complete  entry-contradicts
cohort             ["bergen","coimbra","leiden","oslo"]    complete  entry-contradicts
partition          GROUPS                                  complete  entry-contradicts
threshold          4                                       complete  spec-differs
directory_digest   F64                                     authentic directory-differs
model_digest       F64                                     complete  model-differs
lanes              30                                      authentic update-signature
scale              2.0                                     complete  spec-differs
limit              9                                       complete  spec-differs
minimum            2                                       complete  spec-differs
"""

HOSPITAL_LIES = """
study-approved      study_digest            F64       complete   not-approved      leiden
study-approved      officer                 "nobody"  complete   history-differs   coordinator
study-approved      policy_digest           F64       complete   history-differs   coordinator
engine-audit-registered run                     N32       recomputed audit-unregistered leiden
engine-audit-registered session                 N32       recomputed audit-unregistered leiden
engine-audit-registered rule.noise_multiplier   9.0       recomputed audit-rule-differs leiden
engine-audit-registered rule.sampling_rate      0.01      recomputed audit-rule-differs leiden
engine-audit-registered rule.steps              1         recomputed audit-rule-differs leiden
engine-audit-registered rule.canaries           20        recomputed audit-rule-differs leiden
engine-audit-registered rule.named              3         recomputed audit-rule-differs leiden
engine-audit-registered coins_commitment        F64       recomputed audit-differs     leiden
engine-audited      run                     N32       recomputed audit-unregistered leiden
engine-audited      session                 N32       recomputed audit-unregistered leiden
engine-audited      units                   "patients" intact     body-malformed    leiden
engine-audited      seed                    F64       recomputed audit-differs     leiden
engine-audited      named_in                "00"      recomputed audit-differs     leiden
engine-audited      named_out               "00"      recomputed audit-differs     leiden
engine-audited      right                   150       recomputed audit-differs     leiden
engine-audited      delta                   0.01      recomputed audit-differs     leiden
engine-audited      epsilon_claimed         1.0       recomputed audit-differs     leiden
engine-audited      epsilon_f_dp            0.01      recomputed audit-differs     leiden
engine-audited      epsilon_steinke         0.01      recomputed audit-differs     leiden
engine-audited      p_of_claim              0.0001    recomputed audit-differs     leiden
engine-audited      power                   1.0       recomputed audit-differs     leiden
engine-audited      verdict                 "PASS"    recomputed audit-differs     leiden
data-described      run                     N32       recomputed data-differs      leiden
data-described      verdict                 "ready"   recomputed data-differs      leiden
data-described      verdict                 "not ready" recomputed data-differs      leiden
data-described      verdict                 "fine"    intact     body-malformed    leiden
data-described      reasons                 []        recomputed data-differs      leiden
data-described      reasons                 ["age"]   intact     body-malformed    leiden
data-described      reasons                 TWICE     recomputed data-differs      leiden
data-described      reasons                 STOPPING  recomputed data-differs      leiden
data-described      reasons                 APART     recomputed data-differs      leiden
data-described      noise                   "gaussian" intact     body-malformed    leiden
data-described      numbers.patients        null      recomputed data-differs      leiden
data-described      numbers.patients        15        recomputed data-differs      leiden
data-described      numbers.patients        201       intact     body-malformed    leiden
data-described      numbers.patients        5         intact     body-malformed    leiden
data-described      numbers.records         100       recomputed data-differs      leiden
data-described      numbers.outcomes        []        recomputed data-differs      leiden
data-described      numbers.outcomes        [100, null] recomputed data-differs      leiden
data-described      numbers.outcomes        [195, 15] recomputed data-differs      leiden
data-described      numbers.outcomes        [15, null] recomputed data-differs      leiden
data-described      numbers.missing         [15]      recomputed data-differs      leiden
data-described      compared_with           F64       not-seen   -                 leiden
data-described      numbers                 null      not-seen   -                 leiden
noise-measured      run                     N32       recomputed noise-measured-differs leiden
noise-measured      coordinates             1000000000 recomputed noise-measured-differs leiden
noise-measured      sum_of_squares_over_variance 500.0     recomputed noise-measured-differs leiden
noise-measured      sigma_ratio             1.2       recomputed noise-measured-differs leiden
noise-measured      sigma_ratio_low         0.999     recomputed noise-measured-differs leiden
noise-measured      sigma_ratio_high        1.001     recomputed noise-measured-differs leiden
noise-measured      p_value                 0.5       recomputed noise-measured-differs leiden
noise-measured      shortfall_seen          0.001     recomputed noise-measured-differs leiden
noise-measured      verdict                 "PASS"    recomputed noise-measured-differs leiden
run-joined          run                     N32       complete   join-missing      leiden
run-joined          session                 N32       complete   join-missing      coordinator
run-joined          study_digest            F64       complete   other-study       leiden
run-joined          epsilon_planned         0.5       complete   history-differs   coordinator
release-reserved    release                 N32       complete   entry-contradicts leiden
release-reserved    transcript              F64       complete   entry-contradicts leiden
release-reserved    purpose                 "evaluate" complete   purpose-differs   leiden
release-reserved    mechanism               "exact"   complete   history-differs   coordinator
release-sent        release                 N32       complete   entry-contradicts leiden
release-sent        transcript              F64       complete   entry-contradicts leiden
release-sent        update_digest           F64       complete   update-differs    leiden
release-sent        engine.mechanism        "distributed" complete   entry-contradicts leiden
release-sent        engine.noise_multiplier 0.9       recomputed engine-weaker     leiden
release-sent        engine.noise_multiplier 9.0       complete   history-differs   coordinator
release-sent        engine.clip_norm_l2     2.0       recomputed engine-weaker     leiden
release-sent        engine.sampling_rate    0.5       recomputed engine-weaker     leiden
release-sent        engine.steps            40        recomputed epsilon-over-ceiling leiden
release-sent        engine.records_per_patient 7         recomputed engine-weaker     leiden
release-sent        engine.batches_commitment F64       complete   history-differs   coordinator
release-sent        engine.clipping         "per-layer" recomputed engine-weaker     leiden
release-sent        engine.truncation       0.5       recomputed epsilon-over-ceiling leiden
release-sent        engine.patients         40        complete   entry-contradicts leiden
survivors-signed    transcript              F64       complete   attempt-hidden    leiden
survivors-signed    survivors               []        complete   survivors-differ  leiden
survivors-signed    survivors               WITHOUT   complete   survivors-differ  leiden
checkpoint-witnessed actor                   "zurich"  complete   history-differs   coordinator
checkpoint-witnessed size                    2         complete   history-differs   leiden
checkpoint-witnessed size                    9999      complete   history-shortened leiden
checkpoint-witnessed head                    F64       complete   history-differs   leiden
checkpoint-witnessed[3] head                    F64       complete   history-differs   leiden
run-ended           run                     N32       complete   end-missing       leiden
run-ended           coordinator_head        F64       complete   history-differs   leiden
run-ended           epsilon                 0.1       recomputed epsilon-under-reported leiden
run-ended           delta                   0.1       recomputed delta-differs     leiden
run-ended           delta                   null      recomputed delta-differs     leiden
run-ended           epsilon_dataset         0.1       recomputed epsilon-under-reported leiden
run-ended           epsilon_budget          1.0       recomputed budget-overrun    leiden
run-ended           epsilon                 null      not-seen   -                 leiden
run-ended           epsilon                 9.0       not-seen   -                 leiden
run-ended           epsilon_dataset         null      not-seen   -                 leiden
run-ended           epsilon_dataset         9.0       not-seen   -                 leiden
run-ended           epsilon_budget          99.0      not-seen   -                 leiden
run-ended           epsilon_budget          null      not-seen   -                 leiden
"""

# what was done to the first entry of this type, by whose log
MOVED = """
dropped coordinator study-opened            complete   evidence-contradicts bundle
dropped coordinator hospital-joined         authentic  directory-differs    coordinator
dropped coordinator round-opened            complete   entry-contradicts    coordinator
dropped coordinator update-received         complete   sum-without-hospital coordinator
dropped coordinator checkpoint-witnessed    complete   history-shortened    bergen
dropped coordinator survivors-agreed        complete   sum-without-survivors coordinator
dropped coordinator hospital-vanished       complete   history-differs      bergen
dropped coordinator share-rejected          complete   history-differs      bergen
dropped coordinator round-closed            complete   attempt-open         coordinator
dropped coordinator evaluation-closed       complete   attempt-open         coordinator
dropped coordinator comparison              complete   history-differs      bergen
doubled coordinator comparison              recomputed comparison-differs   coordinator
delayed coordinator comparison              recomputed comparison-differs   coordinator
dropped coordinator run-closed              complete   end-missing          coordinator
dropped coordinator hospital-missed         complete   absence-unnamed      coordinator
dropped coordinator attempt-void            complete   attempt-open         coordinator
doubled coordinator study-opened            complete   history-differs      bergen
doubled coordinator hospital-joined         authentic  directory-differs    coordinator
doubled coordinator round-opened            complete   entry-contradicts    coordinator
doubled coordinator update-received         complete   entry-contradicts    coordinator
doubled coordinator checkpoint-witnessed    complete   history-differs      bergen
doubled coordinator survivors-agreed        complete   entry-contradicts    coordinator
doubled coordinator hospital-vanished       complete   entry-contradicts    coordinator
doubled coordinator share-rejected          complete   history-differs      bergen
doubled coordinator round-closed            complete   entry-contradicts    coordinator
doubled coordinator evaluation-closed       complete   entry-contradicts    coordinator
doubled coordinator run-closed              complete   after-the-end        coordinator
doubled coordinator hospital-missed         complete   entry-contradicts    coordinator
doubled coordinator attempt-void            complete   entry-contradicts    coordinator
delayed coordinator study-opened            complete   history-differs      bergen
delayed coordinator hospital-joined         complete   spec-differs         coordinator
delayed coordinator round-opened            complete   entry-contradicts    coordinator
delayed coordinator update-received         complete   entry-contradicts    coordinator
delayed coordinator checkpoint-witnessed    complete   history-differs      bergen
delayed coordinator survivors-agreed        complete   entry-contradicts    coordinator
delayed coordinator hospital-vanished       complete   entry-contradicts    coordinator
delayed coordinator share-rejected          complete   entry-contradicts    coordinator
delayed coordinator round-closed            complete   history-differs      bergen
delayed coordinator evaluation-closed       complete   history-differs      bergen
delayed coordinator hospital-missed         complete   entry-contradicts    coordinator
delayed coordinator attempt-void            complete   history-differs      bergen
dropped leiden      study-approved          complete   not-approved         leiden
dropped leiden      engine-audit-registered recomputed audit-unregistered   leiden
dropped leiden      engine-audited          complete   history-differs      coordinator
dropped leiden      run-joined              complete   join-missing         leiden
dropped leiden      checkpoint-witnessed    complete   history-differs      coordinator
dropped leiden      release-reserved        complete   entry-contradicts    leiden
dropped leiden      release-sent            complete   release-missing      coordinator
dropped leiden      survivors-signed        complete   signature-unknown    coordinator
dropped leiden      run-ended               complete   end-missing          leiden
dropped leiden      data-described          not-seen   -                    leiden
dropped leiden      noise-measured          not-seen   -                    leiden
doubled leiden      study-approved          complete   history-differs      coordinator
doubled leiden      engine-audit-registered complete   history-differs      coordinator
doubled leiden      engine-audited          recomputed audit-unregistered   leiden
doubled leiden      run-joined              complete   history-differs      coordinator
doubled leiden      checkpoint-witnessed    complete   history-differs      coordinator
doubled leiden      release-reserved        complete   entry-contradicts    leiden
doubled leiden      release-sent            complete   entry-contradicts    leiden
doubled leiden      survivors-signed        complete   history-differs      coordinator
doubled leiden      data-described          recomputed data-differs         leiden
doubled leiden      noise-measured          not-seen   -                    leiden
doubled leiden      run-ended               not-seen   -                    leiden
delayed leiden      study-approved          complete   not-approved         leiden
delayed leiden      engine-audit-registered recomputed audit-unregistered   leiden
delayed leiden      engine-audited          complete   history-differs      coordinator
delayed leiden      run-joined              complete   never-witnessed      leiden
delayed leiden      checkpoint-witnessed    complete   history-differs      coordinator
delayed leiden      release-reserved        complete   entry-contradicts    leiden
delayed leiden      release-sent            complete   history-differs      coordinator
delayed leiden      survivors-signed        complete   history-differs      coordinator
delayed leiden      data-described          recomputed data-differs         leiden
delayed leiden      noise-measured          not-seen   -                    leiden
"""
