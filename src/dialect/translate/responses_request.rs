use super::*;
pub(super) fn responses(_b: &[u8], _m: &str, _s: &str, _st: Stamp) -> Result<Action, TranslateError> { Err(TranslateError::new("x")) }
