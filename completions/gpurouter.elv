
use builtin;
use str;

set edit:completion:arg-completer[gpurouter] = {|@words|
    fn spaces {|n|
        builtin:repeat $n ' ' | str:join ''
    }
    fn cand {|text desc|
        edit:complex-candidate $text &display=$text' '(spaces (- 14 (wcswidth $text)))$desc
    }
    var command = 'gpurouter'
    for word $words[1..-1] {
        if (str:has-prefix $word '-') {
            break
        }
        set command = $command';'$word
    }
    var completions = [
        &'gpurouter'= {
            cand --config 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]'
            cand --node 'A node, instead of the configured ones (repeatable)'
            cand --json 'Print one JSON document instead of text'
            cand -v 'Say more (repeatable)'
            cand --verbose 'Say more (repeatable)'
            cand -q 'Say only what went wrong'
            cand --quiet 'Say only what went wrong'
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
            cand serve 'Run the router'
            cand demo 'See it work: simulated nodes and three prompts through the router'
            cand ask 'Send one prompt through the same decision and print the answer'
            cand classify 'Tell how much model a prompt needs: SIMPLE, MODERATE or COMPLEX'
            cand route 'Tell where a request would go, without sending it'
            cand status 'Show nodes, loaded models, queues, speeds and warnings'
            cand why 'Explain the recorded decision of a request'
            cand sim 'Run simulated nodes'
            cand completions 'Print a shell''s completion script'
            cand man 'Print the manual page'
        }
        &'gpurouter;serve'= {
            cand --config 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]'
            cand --node 'A node, instead of the configured ones (repeatable)'
            cand --json 'Print one JSON document instead of text'
            cand -v 'Say more (repeatable)'
            cand --verbose 'Say more (repeatable)'
            cand -q 'Say only what went wrong'
            cand --quiet 'Say only what went wrong'
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'gpurouter;demo'= {
            cand --config 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]'
            cand --node 'A node, instead of the configured ones (repeatable)'
            cand --json 'Print one JSON document instead of text'
            cand -v 'Say more (repeatable)'
            cand --verbose 'Say more (repeatable)'
            cand -q 'Say only what went wrong'
            cand --quiet 'Say only what went wrong'
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'gpurouter;ask'= {
            cand --config 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]'
            cand --node 'A node, instead of the configured ones (repeatable)'
            cand --json 'Print one JSON document instead of text'
            cand -v 'Say more (repeatable)'
            cand --verbose 'Say more (repeatable)'
            cand -q 'Say only what went wrong'
            cand --quiet 'Say only what went wrong'
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'gpurouter;classify'= {
            cand --config 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]'
            cand --node 'A node, instead of the configured ones (repeatable)'
            cand --json 'Print one JSON document instead of text'
            cand -v 'Say more (repeatable)'
            cand --verbose 'Say more (repeatable)'
            cand -q 'Say only what went wrong'
            cand --quiet 'Say only what went wrong'
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'gpurouter;route'= {
            cand --config 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]'
            cand --node 'A node, instead of the configured ones (repeatable)'
            cand --json 'Print one JSON document instead of text'
            cand -v 'Say more (repeatable)'
            cand --verbose 'Say more (repeatable)'
            cand -q 'Say only what went wrong'
            cand --quiet 'Say only what went wrong'
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'gpurouter;status'= {
            cand --config 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]'
            cand --node 'A node, instead of the configured ones (repeatable)'
            cand --json 'Print one JSON document instead of text'
            cand -v 'Say more (repeatable)'
            cand --verbose 'Say more (repeatable)'
            cand -q 'Say only what went wrong'
            cand --quiet 'Say only what went wrong'
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'gpurouter;why'= {
            cand --config 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]'
            cand --node 'A node, instead of the configured ones (repeatable)'
            cand --json 'Print one JSON document instead of text'
            cand -v 'Say more (repeatable)'
            cand --verbose 'Say more (repeatable)'
            cand -q 'Say only what went wrong'
            cand --quiet 'Say only what went wrong'
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'gpurouter;sim'= {
            cand --config 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]'
            cand --node 'A node, instead of the configured ones (repeatable)'
            cand --json 'Print one JSON document instead of text'
            cand -v 'Say more (repeatable)'
            cand --verbose 'Say more (repeatable)'
            cand -q 'Say only what went wrong'
            cand --quiet 'Say only what went wrong'
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'gpurouter;completions'= {
            cand --config 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]'
            cand --node 'A node, instead of the configured ones (repeatable)'
            cand --json 'Print one JSON document instead of text'
            cand -v 'Say more (repeatable)'
            cand --verbose 'Say more (repeatable)'
            cand -q 'Say only what went wrong'
            cand --quiet 'Say only what went wrong'
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'gpurouter;man'= {
            cand --config 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]'
            cand --node 'A node, instead of the configured ones (repeatable)'
            cand --json 'Print one JSON document instead of text'
            cand -v 'Say more (repeatable)'
            cand --verbose 'Say more (repeatable)'
            cand -q 'Say only what went wrong'
            cand --quiet 'Say only what went wrong'
            cand -h 'Print help'
            cand --help 'Print help'
            cand -V 'Print version'
            cand --version 'Print version'
        }
    ]
    $completions[$command]
}
