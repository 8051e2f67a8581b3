
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
            cand models 'List known models and what the nodes offer'
            cand status 'Show nodes, loaded models, queues, speeds and warnings'
            cand why 'Explain the recorded decision of a request'
            cand sim 'Run simulated nodes'
            cand completions 'Print a shell''s completion script'
            cand man 'Print the manual page'
        }
        &'gpurouter;serve'= {
            cand --listen 'Address to listen on; port 0 takes any free one, which is printed'
            cand --log-format 'Form of the log lines'
            cand --config 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]'
            cand --node 'A node, instead of the configured ones (repeatable)'
            cand --print-config 'Print the configuration with the origin of every value, and exit'
            cand --check 'Check configuration and nodes, and exit: 0 all up, 1 some, 3 none'
            cand --json 'Print one JSON document instead of text'
            cand -v 'Say more (repeatable)'
            cand --verbose 'Say more (repeatable)'
            cand -q 'Say only what went wrong'
            cand --quiet 'Say only what went wrong'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
            cand -V 'Print version'
            cand --version 'Print version'
        }
        &'gpurouter;demo'= {
            cand --listen 'Address of the router'
            cand --config 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]'
            cand --node 'A node, instead of the configured ones (repeatable)'
            cand --once 'Exit after the three prompts, do not go on serving'
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
            cand --model 'The model; `auto` chooses by class'
            cand --task 'What it is for; noted in the log'
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
            cand --context 'A file that comes with it: only its size counts'
            cand --messages 'A chat request body instead of a prompt (`-`: stdin)'
            cand --eval 'Measure on a file of JSON lines: `prompt`, `label`'
            cand --min-accuracy 'With --eval: exit 1 below this accuracy (0 to 1)'
            cand --task 'What it is for; told back in JSON'
            cand --config 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]'
            cand --node 'A node, instead of the configured ones (repeatable)'
            cand --lines 'One prompt per line of standard input'
            cand --explain 'Show every signal with its weight'
            cand --selftest 'Classify 15 known prompts and check every answer'
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
            cand --model 'The model that is asked for'
            cand --messages 'A chat request body instead of a prompt (`-`: stdin)'
            cand --config 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]'
            cand --node 'A node, instead of the configured ones (repeatable)'
            cand --explain 'Show every node that was considered'
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
        &'gpurouter;models'= {
            cand --config 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]'
            cand --node 'A node, instead of the configured ones (repeatable)'
            cand --known 'Ask no node: the table of known models only'
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
            cand --watch 'Repeat every SECONDS (2 when left away) until stopped'
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
            cand --gpu 'GPU of a node, or cpu (repeatable)'
            cand --listen 'Of the first node; the others follow; 0 is any'
            cand --model 'A model that every node has, with its size (repeatable)'
            cand --speed 'Tokens per second of every node, instead of what its GPU would do'
            cand --clock 'real, or virtual: waits take no time'
            cand --seed 'Decides the words of the answers and when faults strike'
            cand --fault 'delay=2s, status=503, cut=5 (pieces), hang, garbage, cpu or truncate, with probability P (repeatable)'
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
