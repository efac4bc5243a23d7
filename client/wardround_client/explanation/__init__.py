"""Why a model says what it says of one patient: computed at the hospital, for the hospital."""
