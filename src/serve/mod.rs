//! The running router.
