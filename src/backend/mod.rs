//! One node's API: health, residency, kind; discovery of local servers.
