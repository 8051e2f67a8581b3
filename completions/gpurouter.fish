# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_gpurouter_global_optspecs
    string join \n config= node= gpus= json v/verbose q/quiet h/help V/version
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
complete -c gpurouter -n "__fish_gpurouter_needs_command" -l gpus -d 'GPUs of this machine, told instead of looked for: a JSON file, or sizes such as 24GiB,8GiB' -r
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
complete -c gpurouter -n "__fish_gpurouter_needs_command" -f -a "estimate" -d 'Tell what memory a model takes, part by part, before it is loaded'
complete -c gpurouter -n "__fish_gpurouter_needs_command" -f -a "fit" -d 'Tell where a model fits, next to what is loaded'
complete -c gpurouter -n "__fish_gpurouter_needs_command" -f -a "models" -d 'List known models and what the nodes offer'
complete -c gpurouter -n "__fish_gpurouter_needs_command" -f -a "optimize" -d 'Keep the priority models on GPUs: what is to be loaded where'
complete -c gpurouter -n "__fish_gpurouter_needs_command" -f -a "status" -d 'Show nodes, loaded models, queues, speeds and warnings'
complete -c gpurouter -n "__fish_gpurouter_needs_command" -f -a "why" -d 'Explain the recorded decision of a request'
complete -c gpurouter -n "__fish_gpurouter_needs_command" -f -a "bench" -d 'Figures that anyone can recompute: speed-up, money, receipts'
complete -c gpurouter -n "__fish_gpurouter_needs_command" -f -a "sim" -d 'Run simulated nodes'
complete -c gpurouter -n "__fish_gpurouter_needs_command" -f -a "completions" -d 'Print a shell\'s completion script'
complete -c gpurouter -n "__fish_gpurouter_needs_command" -f -a "man" -d 'Print the manual page'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand serve" -l listen -d 'Address to listen on; port 0 takes any free one, which is printed' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand serve" -l log-format -d 'Form of the log lines' -r -f -a "text\t'One line of words per event'
json\t'One JSON document per line'"
complete -c gpurouter -n "__fish_gpurouter_using_subcommand serve" -l record -d 'Record sizes and times of requests in a new file, for bench' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand serve" -l config -d 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand serve" -l node -d 'A node, instead of the configured ones (repeatable)' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand serve" -l gpus -d 'GPUs of this machine, told instead of looked for: a JSON file, or sizes such as 24GiB,8GiB' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand serve" -l print-config -d 'Print the configuration with the origin of every value, and exit'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand serve" -l check -d 'Check configuration and nodes, and exit: 0 all up, 1 some, 3 none'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand serve" -l record-prompts -d 'Record what the requests say, too'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand serve" -l json -d 'Print one JSON document instead of text'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand serve" -s v -l verbose -d 'Say more (repeatable)'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand serve" -s q -l quiet -d 'Say only what went wrong'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand serve" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand serve" -s V -l version -d 'Print version'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand demo" -l listen -d 'Address of the router' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand demo" -l config -d 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand demo" -l node -d 'A node, instead of the configured ones (repeatable)' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand demo" -l gpus -d 'GPUs of this machine, told instead of looked for: a JSON file, or sizes such as 24GiB,8GiB' -r
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
complete -c gpurouter -n "__fish_gpurouter_using_subcommand ask" -l gpus -d 'GPUs of this machine, told instead of looked for: a JSON file, or sizes such as 24GiB,8GiB' -r
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
complete -c gpurouter -n "__fish_gpurouter_using_subcommand classify" -l gpus -d 'GPUs of this machine, told instead of looked for: a JSON file, or sizes such as 24GiB,8GiB' -r
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
complete -c gpurouter -n "__fish_gpurouter_using_subcommand route" -l gpus -d 'GPUs of this machine, told instead of looked for: a JSON file, or sizes such as 24GiB,8GiB' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand route" -l explain -d 'Show every node that was considered'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand route" -l json -d 'Print one JSON document instead of text'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand route" -s v -l verbose -d 'Say more (repeatable)'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand route" -s q -l quiet -d 'Say only what went wrong'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand route" -s h -l help -d 'Print help'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand route" -s V -l version -d 'Print version'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand estimate" -l quant -d 'Quantisation, where MODEL does not say one' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand estimate" -l ctx -d 'Context in tokens' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand estimate" -l parallel -d 'Sequences at once' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand estimate" -l kv -d 'Type of the KV cache, or of K and of V' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand estimate" -l ubatch -d 'Micro-batch in tokens' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand estimate" -l batch -d 'Batch in tokens' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand estimate" -l flash-attn -d 'Flash attention' -r -f -a "on\t'Yes'
off\t'No'"
complete -c gpurouter -n "__fish_gpurouter_using_subcommand estimate" -l ngl -d 'Layers on GPUs, the output layer counted' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand estimate" -l runtime -d 'llama-server, llama-cli, ollama or vllm' -r -f -a "llama-server\t'llama.cpp\'s server'
llama-cli\t'llama-cli, llama-bench, older servers'
ollama\t'Ollama'
vllm\t'vLLM'"
complete -c gpurouter -n "__fish_gpurouter_using_subcommand estimate" -l unified-kv -d 'Whether the sequences share one KV cache' -r -f -a "on\t'Yes'
off\t'No'"
complete -c gpurouter -n "__fish_gpurouter_using_subcommand estimate" -l tokens -d 'Count a text\'s tokens instead (`-`: stdin)' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand estimate" -l verify -d 'Compare with a runtime\'s log (`-`: stdin), or without LOG with an installed llama-fit-params' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand estimate" -l config -d 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand estimate" -l node -d 'A node, instead of the configured ones (repeatable)' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand estimate" -l gpus -d 'GPUs of this machine, told instead of looked for: a JSON file, or sizes such as 24GiB,8GiB' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand estimate" -l offline -d 'Ask no registry'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand estimate" -l learn -d 'Remember what the runtime takes beside buffers'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand estimate" -l json -d 'Print one JSON document instead of text'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand estimate" -s v -l verbose -d 'Say more (repeatable)'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand estimate" -s q -l quiet -d 'Say only what went wrong'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand estimate" -s h -l help -d 'Print help'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand estimate" -s V -l version -d 'Print version'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand fit" -l quant -d 'Quantisation, where MODEL does not say one' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand fit" -l ctx -d 'Context in tokens' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand fit" -l parallel -d 'Sequences at once' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand fit" -l kv -d 'Type of the KV cache, or of K and of V' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand fit" -l ubatch -d 'Micro-batch in tokens' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand fit" -l batch -d 'Batch in tokens' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand fit" -l flash-attn -d 'Flash attention' -r -f -a "on\t'Yes'
off\t'No'"
complete -c gpurouter -n "__fish_gpurouter_using_subcommand fit" -l ngl -d 'Layers on GPUs, the output layer counted' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand fit" -l runtime -d 'llama-server, llama-cli, ollama or vllm' -r -f -a "llama-server\t'llama.cpp\'s server'
llama-cli\t'llama-cli, llama-bench, older servers'
ollama\t'Ollama'
vllm\t'vLLM'"
complete -c gpurouter -n "__fish_gpurouter_using_subcommand fit" -l unified-kv -d 'Whether the sequences share one KV cache' -r -f -a "on\t'Yes'
off\t'No'"
complete -c gpurouter -n "__fish_gpurouter_using_subcommand fit" -l margin -d 'Share of the memory that may be used, 0 to 1' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand fit" -l config -d 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand fit" -l node -d 'A node, instead of the configured ones (repeatable)' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand fit" -l gpus -d 'GPUs of this machine, told instead of looked for: a JSON file, or sizes such as 24GiB,8GiB' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand fit" -l offline -d 'Ask no registry'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand fit" -l max-ctx -d 'Answer for the largest context that fits'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand fit" -l nodes-only -d 'Leave this machine\'s GPUs out that no node uses'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand fit" -l json -d 'Print one JSON document instead of text'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand fit" -s v -l verbose -d 'Say more (repeatable)'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand fit" -s q -l quiet -d 'Say only what went wrong'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand fit" -s h -l help -d 'Print help'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand fit" -s V -l version -d 'Print version'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand models" -l config -d 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand models" -l node -d 'A node, instead of the configured ones (repeatable)' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand models" -l gpus -d 'GPUs of this machine, told instead of looked for: a JSON file, or sizes such as 24GiB,8GiB' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand models" -l known -d 'Ask no node: the table of known models only'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand models" -l json -d 'Print one JSON document instead of text'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand models" -s v -l verbose -d 'Say more (repeatable)'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand models" -s q -l quiet -d 'Say only what went wrong'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand models" -s h -l help -d 'Print help'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand models" -s V -l version -d 'Print version'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand optimize" -l interval -d 'Time between two cycles, such as 60 or 5m' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand optimize" -l config -d 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand optimize" -l node -d 'A node, instead of the configured ones (repeatable)' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand optimize" -l gpus -d 'GPUs of this machine, told instead of looked for: a JSON file, or sizes such as 24GiB,8GiB' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand optimize" -l apply -d 'Make the changes'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand optimize" -l watch -d 'Repeat every `check_interval` until stopped'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand optimize" -l report-only -d 'Report nodes, models and what would fit, and exit 0'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand optimize" -l strict -d 'Exit 1 when a model fits nowhere'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand optimize" -l warm -d 'Load the priority models and the routed ones now'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand optimize" -l json -d 'Print one JSON document instead of text'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand optimize" -s v -l verbose -d 'Say more (repeatable)'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand optimize" -s q -l quiet -d 'Say only what went wrong'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand optimize" -s h -l help -d 'Print help'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand optimize" -s V -l version -d 'Print version'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand status" -l watch -d 'Repeat every SECONDS (2 when left away) until stopped' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand status" -l config -d 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand status" -l node -d 'A node, instead of the configured ones (repeatable)' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand status" -l gpus -d 'GPUs of this machine, told instead of looked for: a JSON file, or sizes such as 24GiB,8GiB' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand status" -l json -d 'Print one JSON document instead of text'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand status" -s v -l verbose -d 'Say more (repeatable)'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand status" -s q -l quiet -d 'Say only what went wrong'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand status" -s h -l help -d 'Print help'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand status" -s V -l version -d 'Print version'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand why" -l config -d 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand why" -l node -d 'A node, instead of the configured ones (repeatable)' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand why" -l gpus -d 'GPUs of this machine, told instead of looked for: a JSON file, or sizes such as 24GiB,8GiB' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand why" -l json -d 'Print one JSON document instead of text'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand why" -s v -l verbose -d 'Say more (repeatable)'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand why" -s q -l quiet -d 'Say only what went wrong'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand why" -s h -l help -d 'Print help'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand why" -s V -l version -d 'Print version'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and not __fish_seen_subcommand_from live roi cost proxy alloc replay soak" -l recompute -d 'Recompute a receipt\'s report (`-`: stdin) and compare' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and not __fish_seen_subcommand_from live roi cost proxy alloc replay soak" -l config -d 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and not __fish_seen_subcommand_from live roi cost proxy alloc replay soak" -l node -d 'A node, instead of the configured ones (repeatable)' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and not __fish_seen_subcommand_from live roi cost proxy alloc replay soak" -l gpus -d 'GPUs of this machine, told instead of looked for: a JSON file, or sizes such as 24GiB,8GiB' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and not __fish_seen_subcommand_from live roi cost proxy alloc replay soak" -l json -d 'Print one JSON document instead of text'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and not __fish_seen_subcommand_from live roi cost proxy alloc replay soak" -s v -l verbose -d 'Say more (repeatable)'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and not __fish_seen_subcommand_from live roi cost proxy alloc replay soak" -s q -l quiet -d 'Say only what went wrong'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and not __fish_seen_subcommand_from live roi cost proxy alloc replay soak" -s h -l help -d 'Print help'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and not __fish_seen_subcommand_from live roi cost proxy alloc replay soak" -s V -l version -d 'Print version'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and not __fish_seen_subcommand_from live roi cost proxy alloc replay soak" -f -a "live" -d 'Your requests: what you have today against the router'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and not __fish_seen_subcommand_from live roi cost proxy alloc replay soak" -f -a "roi" -d 'What faster answers are worth: time, API, energy, hardware'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and not __fish_seen_subcommand_from live roi cost proxy alloc replay soak" -f -a "cost" -d 'What a number of tokens costs at an API'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and not __fish_seen_subcommand_from live roi cost proxy alloc replay soak" -f -a "proxy" -d 'What the router itself costs, beside other proxies'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and not __fish_seen_subcommand_from live roi cost proxy alloc replay soak" -f -a "alloc" -d 'How fast models are placed on simulated GPUs'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and not __fish_seen_subcommand_from live roi cost proxy alloc replay soak" -f -a "replay" -d 'Traces over simulated nodes, without and with gpurouter'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and not __fish_seen_subcommand_from live roi cost proxy alloc replay soak" -f -a "soak" -d 'A constant rate of requests, for as long as you like'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from live" -l today -d 'What you have today: the address of an Ollama, of a server with OpenAI\'s API, or of another proxy [default: the first node, directly]' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from live" -l model -d 'Its model [default: the one in memory, or largest]' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from live" -l routed -d 'The router [default: the running one, else its own]' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from live" -l routed-model -d 'The model asked of it [default: auto]' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from live" -l prompts -d 'Your own prompts: a text per line, or per line an object {"prompt", "class", "check", ...}' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from live" -l trace -d 'A trace that `serve --record` wrote' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from live" -l class -d 'Of the built-in prompts only these classes: simple, moderate, complex' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from live" -l size -d 'Of the built-in prompts only these sizes: short, medium, long [default: short,medium]' -r -f -a "short\t'None'
medium\t'About 700 tokens'
long\t'About 2,200 tokens'"
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from live" -l limit -d 'Only the first N requests' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from live" -l runs -d 'Repeats of each request' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from live" -l max-tokens -d 'Most tokens of an answer, below what a request says' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from live" -l timeout -d 'When a request counts as failed' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from live" -l seed -d 'Of answers, notes, order and resampling' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from live" -l save -d 'Keep both replies of every pair in a new directory' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from live" -l receipt -d 'Write observations and report as JSON lines' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from live" -l config -d 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from live" -l node -d 'A node, instead of the configured ones (repeatable)' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from live" -l gpus -d 'GPUs of this machine, told instead of looked for: a JSON file, or sizes such as 24GiB,8GiB' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from live" -l quick -d 'See that it works: six requests, once'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from live" -l cold -d 'Also measure without the model in memory'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from live" -l cpu -d 'Compare the GPU of the first Ollama with its own CPU (num_gpu 0) instead'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from live" -l concurrent -d 'Only compare two requests to two nodes at once with the same two one after the other'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from live" -l chart -d 'Bars of the times by class'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from live" -l json -d 'Print one JSON document instead of text'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from live" -s v -l verbose -d 'Say more (repeatable)'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from live" -s q -l quiet -d 'Say only what went wrong'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from live" -s h -l help -d 'Print help'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from live" -s V -l version -d 'Print version'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from roi" -l slow -d 'Seconds of a request today' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from roi" -l fast -d 'Seconds of the same request when it is routed' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from roi" -l from -d 'A receipt of `bench live` that has both, and more' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from roi" -l requests -d 'Requests a day, of everybody together' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from roi" -l developers -d 'People who send requests' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from roi" -l per-developer -d 'Requests a day of each of them' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from roi" -l days -d 'Working days a year' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from roi" -l rate -d 'Money for an hour of somebody\'s time' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from roi" -l attention -d 'Share of the waiting that is paid attention, 0 to 1' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from roi" -l rounding -d '`source`: each step as they print it [default: exact]' -r -f -a "exact\t'The exact ones'
source\t'Each step as the source documents printed it'"
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from roi" -l api-share -d 'Share of the requests that would have gone to an API' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from roi" -l retries -d 'Share of the requests that went there after all' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from roi" -l tokens-in -d 'Prompt tokens of a request' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from roi" -l tokens-cached -d 'Those of them that it had read before [default: 0]' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from roi" -l tokens-out -d 'Answer tokens of a request' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from roi" -l model -d 'The API\'s model [default: `prices.reference`]' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from roi" -l energy -d 'Watt hours of a request, above idle' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from roi" -l idle-watts -d 'Watts of the machine when it waits' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from roi" -l idle-hours -d 'Hours for which it is on every day' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from roi" -l kwh -d 'Price of a kilowatt hour [default: `prices.kwh`]' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from roi" -l capex -d 'Price of the hardware; not given: not counted' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from roi" -l life -d 'Years for which the hardware is used' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from roi" -l receipt -d 'Write observations and report as JSON lines' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from roi" -l config -d 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from roi" -l node -d 'A node, instead of the configured ones (repeatable)' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from roi" -l gpus -d 'GPUs of this machine, told instead of looked for: a JSON file, or sizes such as 24GiB,8GiB' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from roi" -l json -d 'Print one JSON document instead of text'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from roi" -s v -l verbose -d 'Say more (repeatable)'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from roi" -s q -l quiet -d 'Say only what went wrong'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from roi" -s h -l help -d 'Print help'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from roi" -s V -l version -d 'Print version'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from cost" -l tokens-in -d 'Prompt tokens' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from cost" -l tokens-cached -d 'Those of them that it had read before' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from cost" -l tokens-out -d 'Answer tokens' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from cost" -l model -d 'A model of the configured price sheet' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from cost" -l receipt -d 'Write observations and report as JSON lines' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from cost" -l config -d 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from cost" -l node -d 'A node, instead of the configured ones (repeatable)' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from cost" -l gpus -d 'GPUs of this machine, told instead of looked for: a JSON file, or sizes such as 24GiB,8GiB' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from cost" -l json -d 'Print one JSON document instead of text'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from cost" -s v -l verbose -d 'Say more (repeatable)'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from cost" -s q -l quiet -d 'Say only what went wrong'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from cost" -s h -l help -d 'Print help'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from cost" -s V -l version -d 'Print version'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from proxy" -l against -d 'Another proxy in front of the mock, by its address (repeatable)' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from proxy" -l pid -d 'The main process of such a proxy; by default the one that listens at its address (repeatable)' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from proxy" -l upstream-port -d 'The mock\'s port; any free one by default' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from proxy" -l rounds -d 'Rounds, over which medians are taken [default: 5]' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from proxy" -l duration -d 'How long each load is measured [default: 2s]' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from proxy" -l requests -d 'Measure this many requests instead' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from proxy" -l patience -d 'Repeat what other programs disturb, this long' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from proxy" -l streams -d 'Silent streams at once [default: 1000]' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from proxy" -l threads -d 'Threads of generator and mock [default: cores / 4]' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from proxy" -l only -d 'Only these parts: latency, streams, rates, idle, departures, cuts' -r -f -a "latency\t'Latency of requests over one connection'
streams\t'Latency of a stream\'s first piece and of the others'
rates\t'Requests per second and their processor time'
idle\t'Memory, threads, idle streams'
departures\t'Clients that leave'
cuts\t'An upstream that is cut'"
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from proxy" -l receipt -d 'Write observations and report as JSON lines' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from proxy" -l config -d 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from proxy" -l node -d 'A node, instead of the configured ones (repeatable)' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from proxy" -l gpus -d 'GPUs of this machine, told instead of looked for: a JSON file, or sizes such as 24GiB,8GiB' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from proxy" -l quick -d 'See that it works: one short round, rough figures'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from proxy" -l print-nginx -d 'Print a fair configuration for nginx, and exit'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from proxy" -l print-haproxy -d 'The same for HAProxy'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from proxy" -l hold -d 'Only run mock and router, for another generator'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from proxy" -l json -d 'Print one JSON document instead of text'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from proxy" -s v -l verbose -d 'Say more (repeatable)'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from proxy" -s q -l quiet -d 'Say only what went wrong'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from proxy" -s h -l help -d 'Print help'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from proxy" -s V -l version -d 'Print version'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from alloc" -l count -d 'Simulated GPUs' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from alloc" -l iterations -d 'Decisions of each kind' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from alloc" -l seed -d 'Of the GPUs and models' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from alloc" -l receipt -d 'Write every decision\'s time and the report as JSON lines' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from alloc" -l config -d 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from alloc" -l node -d 'A node, instead of the configured ones (repeatable)' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from alloc" -l gpus -d 'GPUs of this machine, told instead of looked for: a JSON file, or sizes such as 24GiB,8GiB' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from alloc" -l json -d 'Print one JSON document instead of text'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from alloc" -s v -l verbose -d 'Say more (repeatable)'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from alloc" -s q -l quiet -d 'Say only what went wrong'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from alloc" -s h -l help -d 'Print help'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from alloc" -s V -l version -d 'Print version'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from replay" -l trace -d 'A trace that comes with gpurouter (repeatable)' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from replay" -l with -d 'Another GPU for a node, or another node (repeatable)' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from replay" -l num-ctx -d 'Its `num_ctx`: raise-only, bucket, pin or pass' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from replay" -l copies -d 'Nodes that hold a model: as-needed or one' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from replay" -l seed -d 'Decides everything that is random' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from replay" -l receipt -d 'Write what was counted and the report as JSON lines' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from replay" -l config -d 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from replay" -l node -d 'A node, instead of the configured ones (repeatable)' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from replay" -l gpus -d 'GPUs of this machine, told instead of looked for: a JSON file, or sizes such as 24GiB,8GiB' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from replay" -l list -d 'List the traces that come with gpurouter'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from replay" -l export -d 'Print the trace itself, as JSON lines'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from replay" -l json -d 'Print one JSON document instead of text'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from replay" -s v -l verbose -d 'Say more (repeatable)'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from replay" -s q -l quiet -d 'Say only what went wrong'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from replay" -s h -l help -d 'Print help'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from replay" -s V -l version -d 'Print version'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from soak" -l url -d 'What to ask for [default: /health of the configured router]' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from soak" -l duration -d 'How long' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from soak" -l rps -d 'Requests per second' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from soak" -l timeout -d 'When a request counts as failed' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from soak" -l connections -d 'Connections, kept open; a request that finds none free is sent late' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from soak" -l pid -d 'The server\'s process [default: the one that listens there]' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from soak" -l receipt -d 'Write observations and report as JSON lines' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from soak" -l config -d 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from soak" -l node -d 'A node, instead of the configured ones (repeatable)' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from soak" -l gpus -d 'GPUs of this machine, told instead of looked for: a JSON file, or sizes such as 24GiB,8GiB' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from soak" -l json -d 'Print one JSON document instead of text'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from soak" -s v -l verbose -d 'Say more (repeatable)'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from soak" -s q -l quiet -d 'Say only what went wrong'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from soak" -s h -l help -d 'Print help'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand bench; and __fish_seen_subcommand_from soak" -s V -l version -d 'Print version'
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
complete -c gpurouter -n "__fish_gpurouter_using_subcommand sim" -l gpus -d 'GPUs of this machine, told instead of looked for: a JSON file, or sizes such as 24GiB,8GiB' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand sim" -l json -d 'Print one JSON document instead of text'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand sim" -s v -l verbose -d 'Say more (repeatable)'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand sim" -s q -l quiet -d 'Say only what went wrong'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand sim" -s h -l help -d 'Print help'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand sim" -s V -l version -d 'Print version'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand completions" -l config -d 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand completions" -l node -d 'A node, instead of the configured ones (repeatable)' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand completions" -l gpus -d 'GPUs of this machine, told instead of looked for: a JSON file, or sizes such as 24GiB,8GiB' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand completions" -l json -d 'Print one JSON document instead of text'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand completions" -s v -l verbose -d 'Say more (repeatable)'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand completions" -s q -l quiet -d 'Say only what went wrong'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand completions" -s h -l help -d 'Print help'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand completions" -s V -l version -d 'Print version'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand man" -l config -d 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]' -r -F
complete -c gpurouter -n "__fish_gpurouter_using_subcommand man" -l node -d 'A node, instead of the configured ones (repeatable)' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand man" -l gpus -d 'GPUs of this machine, told instead of looked for: a JSON file, or sizes such as 24GiB,8GiB' -r
complete -c gpurouter -n "__fish_gpurouter_using_subcommand man" -l json -d 'Print one JSON document instead of text'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand man" -s v -l verbose -d 'Say more (repeatable)'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand man" -s q -l quiet -d 'Say only what went wrong'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand man" -s h -l help -d 'Print help'
complete -c gpurouter -n "__fish_gpurouter_using_subcommand man" -s V -l version -d 'Print version'
