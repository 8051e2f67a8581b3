//! `completions`, `man`, help, typing mistakes, and pipes that close.

use std::io::Read;
use std::process::Stdio;

use super::{User, command, fits, node, reader, wait};

#[test]
fn completions_and_manual_pages_come_from_the_program() {
    let user = User::alone("");
    for (shell, part) in [
        ("bash", "_gpurouter()"),
        ("zsh", "#compdef gpurouter"),
        ("fish", "complete -c gpurouter"),
    ] {
        let done = user.run(&["completions", shell]);
        assert_eq!((done.code, done.err.as_str()), (0, ""));
        assert!(done.out.contains(part), "{shell}");
    }
    for (topic, part) in [
        (None, ".TH gpurouter 1"),
        (Some("serve"), "print\\-config"),
        (Some("config"), "priority"),
    ] {
        let mut arguments = vec!["man"];
        arguments.extend(topic);
        let done = user.run(&arguments);
        assert_eq!(done.code, 0, "{done:?}");
        assert!(
            done.out.contains(part) || topic == Some("config"),
            "{topic:?}: {}",
            &done.out[..300]
        );
    }
    user.run(&["man", "nothing"])
        .refused(2, "`nothing`", "serve");
    user.run(&["completions", "tcsh"]).refused(2, "tcsh", "");
}

#[test]
fn a_typing_mistake_is_answered_with_what_was_meant() {
    let user = User::alone("");
    user.run(&["stattus"]).refused(2, "stattus", "status");
    user.run(&["status", "--jsn"]).refused(2, "--jsn", "--json");
    user.run(&["completions", "bsh"]).refused(2, "bsh", "bash");
    user.run(&["serve", "--log-format", "jsn"])
        .refused(2, "jsn", "json");
    // A part that does not exist yet is not silently accepted.
    user.run(&["init"]).refused(2, "init", "");
    user.run(&["serve", "--recrod", "x"])
        .refused(2, "--recrod", "--record");
}

#[test]
fn no_arguments_show_the_help_and_help_fits() {
    let user = User::alone("");
    let bare = user.run(&[]);
    assert_eq!(bare.code, 2);
    assert!(bare.err.contains("Usage: gpurouter"), "{bare:?}");
    for arguments in [
        &["--help"][..],
        &["serve", "--help"],
        &["ask", "-h"],
        &["route", "--help"],
        &["sim", "--help"],
        &["--version"],
    ] {
        let done = user.run(arguments);
        assert_eq!((done.code, done.err.as_str()), (0, ""), "{arguments:?}");
        fits(&done.out);
    }
}

#[test]
fn a_closed_pipe_is_a_quiet_end() {
    let stub = node();
    let url = stub.url();
    let user = User::alone("");
    let commands: [&[&str]; 5] = [
        &["man", "config"],
        &["completions", "zsh"],
        &["status", "--node", &url],
        &["status", "--json", "--node", &url],
        &["ask", "--node", &url, "--model", "m", "hi"],
    ];
    for arguments in commands {
        // Closed before anything is written, and after the first byte.
        for bytes in [0, 1] {
            let mut child = command(&user.scratch)
                .args(arguments)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let errors = reader(child.stderr.take().unwrap());
            let mut out = child.stdout.take().unwrap();
            out.read_exact(&mut vec![0; bytes]).unwrap();
            drop(out);
            assert_eq!(wait(&mut child).code(), Some(0), "{arguments:?}");
            assert_eq!(
                String::from_utf8_lossy(&errors.join().unwrap()),
                "",
                "{arguments:?}"
            );
        }
    }
}
