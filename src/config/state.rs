//! Where what is kept across runs lies.

use std::path::{Path, PathBuf};

use super::Environment;

/// The directory of what is kept across runs: the configured one (a leading `~` is the home directory), else the user's own; `None` without
/// a home directory.
pub(super) fn directory(configured: Option<&Path>, environment: &Environment) -> Option<PathBuf> {
    let home = || environment.get("HOME").map(PathBuf::from);
    if let Some(directory) = configured {
        return match directory.strip_prefix("~") {
            Ok(below) => Some(home()?.join(below)),
            Err(_) => Some(directory.to_owned()),
        };
    }
    let state = environment
        .get("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    Some(match state {
        Some(state) => state.join("gpurouter"),
        None => home()?.join(".local/state/gpurouter"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configured_then_xdg_then_home_then_nowhere() {
        let at = |configured: Option<&str>, variables: &[(&str, &str)]| {
            let environment = Environment::new(Path::new("/"), variables.iter().copied());
            directory(configured.map(Path::new), &environment)
        };
        let home = ("HOME", "/h");
        assert_eq!(at(Some("/x"), &[home]), Some("/x".into()));
        assert_eq!(at(Some("~/x"), &[home]), Some("/h/x".into()));
        assert_eq!(at(Some("~/x"), &[]), None);
        let xdg = ("XDG_STATE_HOME", "/s");
        assert_eq!(at(None, &[home, xdg]), Some("/s/gpurouter".into()));
        let relative = ("XDG_STATE_HOME", "s");
        let usual = Some("/h/.local/state/gpurouter".into());
        assert_eq!(at(None, &[home, relative]), usual);
        assert_eq!(at(None, &[]), None);
    }
}
