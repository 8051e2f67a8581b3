# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_gpurouter_global_optspecs
    string join \n config= node= json v/verbose q/quiet h/help V/version
end

function __fish_gpurouter_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_gpurouter_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_gpurouter_using_subcommand
    set -l cmd (__fish_gpurouter_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c gpurouter -n "__fish_gpurouter_needs_command" -l config -d 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]' -r -F
complete -c gpurouter -n "__fish_gpurouter_needs_command" -l node -d 'A node, instead of the configured ones (repeatable)' -r
complete -c gpurouter -n "__fish_gpurouter_needs_command" -l json -d 'Print one JSON document instead of text'
complete -c gpurouter -n "__fish_gpurouter_needs_command" -s v -l verbose -d 'Say more (repeatable)'
complete -c gpurouter -n "__fish_gpurouter_needs_command" -s q -l quiet -d 'Say only what went wrong'
complete -c gpurouter -n "__fish_gpurouter_needs_command" -s h -l help -d 'Print help'
complete -c gpurouter -n "__fish_gpurouter_needs_command" -s V -l version -d 'Print version'
complete -c gpurouter -n "__fish_gpurouter_needs_command" -f -a "serve" -d 'Run the router'
complete -c gpurouter -n "__fish_gpurouter_needs_command" -f -a "demo" -d 'See it work: simulated nodes and three prompts through the router'
complete -c gpurouter -n "__fish_gpurouter_needs_command" -f -a "ask" -d 'Send one prompt through the same decision and print the answer'
complete -c gpurouter -n "__fish_gpurouter_needs_command" -f -a "classify" -d 'Tell how much model a prompt needs: SIMPLE, MODERATE or COMPLEX'
complete -c gpurouter -n "__fish_gpurouter_needs_command" -f -a "route" -d 'Tell where a request would go, without sending it'
complete -c gpurouter -n "__fish_gpurouter_needs_command" -f -a "status" -d 'Show nodes, loaded models, queues, speeds and warnings'
complete -c gpurouter -n "__fish_gpurouter_needs_command" -f -a "why" -d 'Explain the recorded decision of a request'
complete -c gpurouter -n "__fish_gpurouter_needs_command" -f -a "bench" -d 'Measure, replay and compare'
complete -c gpurouter -n "__fish_gpurouter_needs_command" -f -a "sim" -d 'Run simulated nodes'
complete -c gpurouter -n "__fish_gpurouter_needs_command" -f -a "completions" -d 'Print a shell\'s completion script'
complete -c gpurouter -n "__fish_gpurouter_needs_command" -f -a "man" -d 'Print the manual page'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand serve" -l listen -d 'Address to listen on; port 0 takes any free one, which is printed' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand serve" -l log-format -d 'Form of the log lines' -r -f -a "text\t'One line of words per event'
json\t'One JSON document per line'"
complete -c gpurouter -n "__fish_gpurouter_using_subcommand serve" -l config -d 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand serve" -l node -d 'A node, instead of the configured ones (repeatable)' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand serve" -l print-config -d 'Print the configuration with the origin of every value, and exit'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand serve" -l check -d 'Check configuration and nodes, and exit: 0 all up, 1 some, 3 none'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand serve" -l json -d 'Print one JSON document instead of text'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand serve" -s v -l verbose -d 'Say more (repeatable)'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand serve" -s q -l quiet -d 'Say only what went wrong'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand serve" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand serve" -s V -l version -d 'Print version'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand demo" -l listen -d 'Address of the router' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand demo" -l config -d 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand demo" -l node -d 'A node, instead of the configured ones (repeatable)' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand demo" -l once -d 'Exit after the three prompts, do not go on serving'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand demo" -l json -d 'Print one JSON document instead of text'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand demo" -s v -l verbose -d 'Say more (repeatable)'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand demo" -s q -l quiet -d 'Say only what went wrong'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand demo" -s h -l help -d 'Print help'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand demo" -s V -l version -d 'Print version'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand ask" -l model -d 'The model; `auto` chooses by class' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand ask" -l task -d 'What it is for; noted in the log' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand ask" -l config -d 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand ask" -l node -d 'A node, instead of the configured ones (repeatable)' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand ask" -l json -d 'Print one JSON document instead of text'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand ask" -s v -l verbose -d 'Say more (repeatable)'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand ask" -s q -l quiet -d 'Say only what went wrong'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand ask" -s h -l help -d 'Print help'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand ask" -s V -l version -d 'Print version'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand classify" -l context -d 'A file that comes with it: only its size counts' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand classify" -l messages -d 'A chat request body instead of a prompt (`-`: stdin)' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand classify" -l eval -d 'Measure on a file of JSON lines: `prompt`, `label`' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand classify" -l min-accuracy -d 'With --eval: exit 1 below this accuracy (0 to 1)' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand classify" -l task -d 'What it is for; told back in JSON' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand classify" -l config -d 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand classify" -l node -d 'A node, instead of the configured ones (repeatable)' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand classify" -l lines -d 'One prompt per line of standard input'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand classify" -l explain -d 'Show every signal with its weight'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand classify" -l selftest -d 'Classify 15 known prompts and check every answer'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand classify" -l json -d 'Print one JSON document instead of text'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand classify" -s v -l verbose -d 'Say more (repeatable)'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand classify" -s q -l quiet -d 'Say only what went wrong'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand classify" -s h -l help -d 'Print help'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand classify" -s V -l version -d 'Print version'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand route" -l model -d 'The model that is asked for' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand route" -l messages -d 'A chat request body instead of a prompt (`-`: stdin)' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand route" -l config -d 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand route" -l node -d 'A node, instead of the configured ones (repeatable)' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand route" -l explain -d 'Show every node that was considered'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand route" -l json -d 'Print one JSON document instead of text'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand route" -s v -l verbose -d 'Say more (repeatable)'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand route" -s q -l quiet -d 'Say only what went wrong'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand route" -s h -l help -d 'Print help'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand route" -s V -l version -d 'Print version'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand status" -l watch -d 'Repeat every SECONDS (2 when left away) until stopped' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand status" -l config -d 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand status" -l node -d 'A node, instead of the configured ones (repeatable)' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand status" -l json -d 'Print one JSON document instead of text'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand status" -s v -l verbose -d 'Say more (repeatable)'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand status" -s q -l quiet -d 'Say only what went wrong'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand status" -s h -l help -d 'Print help'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand status" -s V -l version -d 'Print version'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand why" -l config -d 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand why" -l node -d 'A node, instead of the configured ones (repeatable)' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand why" -l json -d 'Print one JSON document instead of text'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand why" -s v -l verbose -d 'Say more (repeatable)'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand why" -s q -l quiet -d 'Say only what went wrong'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand why" -s h -l help -d 'Print help'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand why" -s V -l version -d 'Print version'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and not __fish_seen_subcommand_from replay" -l config -d 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and not __fish_seen_subcommand_from replay" -l node -d 'A node, instead of the configured ones (repeatable)' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and not __fish_seen_subcommand_from replay" -l json -d 'Print one JSON document instead of text'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and not __fish_seen_subcommand_from replay" -s v -l verbose -d 'Say more (repeatable)'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and not __fish_seen_subcommand_from replay" -s q -l quiet -d 'Say only what went wrong'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and not __fish_seen_subcommand_from replay" -s h -l help -d 'Print help'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and not __fish_seen_subcommand_from replay" -s V -l version -d 'Print version'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and not __fish_seen_subcommand_from replay" -f -a "replay" -d 'Replay traces over simulated nodes, without and with gpurouter'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from replay" -l trace -d 'A trace that comes with gpurouter (repeatable)' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from replay" -l with -d 'Another GPU for a node, or another node (repeatable)' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from replay" -l seed -d 'Decides everything that is random' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from replay" -l config -d 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from replay" -l node -d 'A node, instead of the configured ones (repeatable)' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from replay" -l list -d 'List the traces that come with gpurouter'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from replay" -l export -d 'Print the trace itself, as JSON lines'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from replay" -l json -d 'Print one JSON document instead of text'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from replay" -s v -l verbose -d 'Say more (repeatable)'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from replay" -s q -l quiet -d 'Say only what went wrong'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from replay" -s h -l help -d 'Print help'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from replay" -s V -l version -d 'Print version'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand sim" -l gpu -d 'GPU of a node, or cpu (repeatable)' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand sim" -l listen -d 'Of the first node; the others follow; 0 is any' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand sim" -l model -d 'A model that every node has, with its size (repeatable)' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand sim" -l speed -d 'Tokens per second of every node, instead of what its GPU would do' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand sim" -l clock -d 'real, or virtual: waits take no time' -r -f -a "real\t''
virtual\t''"
complete -c gpurouter -n "__fish_gpurouter_using_subcommand sim" -l seed -d 'Decides the words of the answers and when faults strike' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand sim" -l fault -d 'delay=2s, status=503, cut=5 (pieces), hang, garbage, cpu or truncate, with probability P (repeatable)' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand sim" -l config -d 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand sim" -l node -d 'A node, instead of the configured ones (repeatable)' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand sim" -l json -d 'Print one JSON document instead of text'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand sim" -s v -l verbose -d 'Say more (repeatable)'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand sim" -s q -l quiet -d 'Say only what went wrong'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand sim" -s h -l help -d 'Print help'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand sim" -s V -l version -d 'Print version'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand completions" -l config -d 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand completions" -l node -d 'A node, instead of the configured ones (repeatable)' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand completions" -l json -d 'Print one JSON document instead of text'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand completions" -s v -l verbose -d 'Say more (repeatable)'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand completions" -s q -l quiet -d 'Say only what went wrong'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand completions" -s h -l help -d 'Print help'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand completions" -s V -l version -d 'Print version'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand man" -l config -d 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand man" -l node -d 'A node, instead of the configured ones (repeatable)' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand man" -l json -d 'Print one JSON document instead of text'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand man" -s v -l verbose -d 'Say more (repeatable)'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand man" -s q -l quiet -d 'Say only what went wrong'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand man" -s h -l help -d 'Print help'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand man" -s V -l version -d 'Print version'
