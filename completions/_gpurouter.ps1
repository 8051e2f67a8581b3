
using namespace System.Management.Automation
using namespace System.Management.Automation.Language

Register-ArgumentCompleter -Native -CommandName 'gpurouter' -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)

    $commandElements = $commandAst.CommandElements
    $command = @(
        'gpurouter'
        for ($i = 1; $i -lt $commandElements.Count; $i++) {
            $element = $commandElements[$i]
            if ($element -isnot [StringConstantExpressionAst] -or
                $element.StringConstantType -ne [StringConstantType]::BareWord -or
                $element.Value.StartsWith('-') -or
                $element.Value -eq $wordToComplete) {
                break
        }
        $element.Value
    }) -join ';'

    $completions = @(switch ($command) {
        'gpurouter' {
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]')
            [CompletionResult]::new('--node', '--node', [CompletionResultType]::ParameterName, 'A node, instead of the configured ones (repeatable)')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print one JSON document instead of text')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more (repeatable)')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more (repeatable)')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say only what went wrong')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say only what went wrong')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('serve', 'serve', [CompletionResultType]::ParameterValue, 'Run the router')
            [CompletionResult]::new('demo', 'demo', [CompletionResultType]::ParameterValue, 'See it work: simulated nodes and three prompts through the router')
            [CompletionResult]::new('ask', 'ask', [CompletionResultType]::ParameterValue, 'Send one prompt through the same decision and print the answer')
            [CompletionResult]::new('classify', 'classify', [CompletionResultType]::ParameterValue, 'Tell how much model a prompt needs: SIMPLE, MODERATE or COMPLEX')
            [CompletionResult]::new('route', 'route', [CompletionResultType]::ParameterValue, 'Tell where a request would go, without sending it')
            [CompletionResult]::new('status', 'status', [CompletionResultType]::ParameterValue, 'Show nodes, loaded models, queues, speeds and warnings')
            [CompletionResult]::new('why', 'why', [CompletionResultType]::ParameterValue, 'Explain the recorded decision of a request')
            [CompletionResult]::new('bench', 'bench', [CompletionResultType]::ParameterValue, 'Measure, replay and compare')
            [CompletionResult]::new('sim', 'sim', [CompletionResultType]::ParameterValue, 'Run simulated nodes')
            [CompletionResult]::new('completions', 'completions', [CompletionResultType]::ParameterValue, 'Print a shell''s completion script')
            [CompletionResult]::new('man', 'man', [CompletionResultType]::ParameterValue, 'Print the manual page')
            break
        }
        'gpurouter;serve' {
            [CompletionResult]::new('--listen', '--listen', [CompletionResultType]::ParameterName, 'Address to listen on; port 0 takes any free one, which is printed')
            [CompletionResult]::new('--log-format', '--log-format', [CompletionResultType]::ParameterName, 'Form of the log lines')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]')
            [CompletionResult]::new('--node', '--node', [CompletionResultType]::ParameterName, 'A node, instead of the configured ones (repeatable)')
            [CompletionResult]::new('--print-config', '--print-config', [CompletionResultType]::ParameterName, 'Print the configuration with the origin of every value, and exit')
            [CompletionResult]::new('--check', '--check', [CompletionResultType]::ParameterName, 'Check configuration and nodes, and exit: 0 all up, 1 some, 3 none')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print one JSON document instead of text')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more (repeatable)')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more (repeatable)')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say only what went wrong')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say only what went wrong')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'gpurouter;demo' {
            [CompletionResult]::new('--listen', '--listen', [CompletionResultType]::ParameterName, 'Address of the router')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]')
            [CompletionResult]::new('--node', '--node', [CompletionResultType]::ParameterName, 'A node, instead of the configured ones (repeatable)')
            [CompletionResult]::new('--once', '--once', [CompletionResultType]::ParameterName, 'Exit after the three prompts, do not go on serving')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print one JSON document instead of text')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more (repeatable)')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more (repeatable)')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say only what went wrong')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say only what went wrong')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'gpurouter;ask' {
            [CompletionResult]::new('--model', '--model', [CompletionResultType]::ParameterName, 'The model; `auto` chooses by class')
            [CompletionResult]::new('--task', '--task', [CompletionResultType]::ParameterName, 'What it is for; noted in the log')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]')
            [CompletionResult]::new('--node', '--node', [CompletionResultType]::ParameterName, 'A node, instead of the configured ones (repeatable)')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print one JSON document instead of text')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more (repeatable)')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more (repeatable)')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say only what went wrong')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say only what went wrong')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'gpurouter;classify' {
            [CompletionResult]::new('--context', '--context', [CompletionResultType]::ParameterName, 'A file that comes with it: only its size counts')
            [CompletionResult]::new('--messages', '--messages', [CompletionResultType]::ParameterName, 'A chat request body instead of a prompt (`-`: stdin)')
            [CompletionResult]::new('--eval', '--eval', [CompletionResultType]::ParameterName, 'Measure on a file of JSON lines: `prompt`, `label`')
            [CompletionResult]::new('--min-accuracy', '--min-accuracy', [CompletionResultType]::ParameterName, 'With --eval: exit 1 below this accuracy (0 to 1)')
            [CompletionResult]::new('--task', '--task', [CompletionResultType]::ParameterName, 'What it is for; told back in JSON')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]')
            [CompletionResult]::new('--node', '--node', [CompletionResultType]::ParameterName, 'A node, instead of the configured ones (repeatable)')
            [CompletionResult]::new('--lines', '--lines', [CompletionResultType]::ParameterName, 'One prompt per line of standard input')
            [CompletionResult]::new('--explain', '--explain', [CompletionResultType]::ParameterName, 'Show every signal with its weight')
            [CompletionResult]::new('--selftest', '--selftest', [CompletionResultType]::ParameterName, 'Classify 15 known prompts and check every answer')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print one JSON document instead of text')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more (repeatable)')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more (repeatable)')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say only what went wrong')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say only what went wrong')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'gpurouter;route' {
            [CompletionResult]::new('--model', '--model', [CompletionResultType]::ParameterName, 'The model that is asked for')
            [CompletionResult]::new('--messages', '--messages', [CompletionResultType]::ParameterName, 'A chat request body instead of a prompt (`-`: stdin)')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]')
            [CompletionResult]::new('--node', '--node', [CompletionResultType]::ParameterName, 'A node, instead of the configured ones (repeatable)')
            [CompletionResult]::new('--explain', '--explain', [CompletionResultType]::ParameterName, 'Show every node that was considered')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print one JSON document instead of text')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more (repeatable)')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more (repeatable)')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say only what went wrong')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say only what went wrong')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'gpurouter;status' {
            [CompletionResult]::new('--watch', '--watch', [CompletionResultType]::ParameterName, 'Repeat every SECONDS (2 when left away) until stopped')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]')
            [CompletionResult]::new('--node', '--node', [CompletionResultType]::ParameterName, 'A node, instead of the configured ones (repeatable)')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print one JSON document instead of text')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more (repeatable)')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more (repeatable)')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say only what went wrong')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say only what went wrong')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'gpurouter;why' {
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]')
            [CompletionResult]::new('--node', '--node', [CompletionResultType]::ParameterName, 'A node, instead of the configured ones (repeatable)')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print one JSON document instead of text')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more (repeatable)')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more (repeatable)')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say only what went wrong')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say only what went wrong')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'gpurouter;bench' {
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]')
            [CompletionResult]::new('--node', '--node', [CompletionResultType]::ParameterName, 'A node, instead of the configured ones (repeatable)')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print one JSON document instead of text')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more (repeatable)')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more (repeatable)')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say only what went wrong')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say only what went wrong')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('replay', 'replay', [CompletionResultType]::ParameterValue, 'Replay traces over simulated nodes, without and with gpurouter')
            break
        }
        'gpurouter;bench;replay' {
            [CompletionResult]::new('--trace', '--trace', [CompletionResultType]::ParameterName, 'A trace that comes with gpurouter (repeatable)')
            [CompletionResult]::new('--with', '--with', [CompletionResultType]::ParameterName, 'Another GPU for a node, or another node (repeatable)')
            [CompletionResult]::new('--seed', '--seed', [CompletionResultType]::ParameterName, 'Decides everything that is random')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]')
            [CompletionResult]::new('--node', '--node', [CompletionResultType]::ParameterName, 'A node, instead of the configured ones (repeatable)')
            [CompletionResult]::new('--list', '--list', [CompletionResultType]::ParameterName, 'List the traces that come with gpurouter')
            [CompletionResult]::new('--export', '--export', [CompletionResultType]::ParameterName, 'Print the trace itself, as JSON lines')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print one JSON document instead of text')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more (repeatable)')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more (repeatable)')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say only what went wrong')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say only what went wrong')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'gpurouter;sim' {
            [CompletionResult]::new('--gpu', '--gpu', [CompletionResultType]::ParameterName, 'GPU of a node, or cpu (repeatable)')
            [CompletionResult]::new('--listen', '--listen', [CompletionResultType]::ParameterName, 'Of the first node; the others follow; 0 is any')
            [CompletionResult]::new('--model', '--model', [CompletionResultType]::ParameterName, 'A model that every node has, with its size (repeatable)')
            [CompletionResult]::new('--speed', '--speed', [CompletionResultType]::ParameterName, 'Tokens per second of every node, instead of what its GPU would do')
            [CompletionResult]::new('--clock', '--clock', [CompletionResultType]::ParameterName, 'real, or virtual: waits take no time')
            [CompletionResult]::new('--seed', '--seed', [CompletionResultType]::ParameterName, 'Decides the words of the answers and when faults strike')
            [CompletionResult]::new('--fault', '--fault', [CompletionResultType]::ParameterName, 'delay=2s, status=503, cut=5 (pieces), hang, garbage, cpu or truncate, with probability P (repeatable)')
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]')
            [CompletionResult]::new('--node', '--node', [CompletionResultType]::ParameterName, 'A node, instead of the configured ones (repeatable)')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print one JSON document instead of text')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more (repeatable)')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more (repeatable)')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say only what went wrong')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say only what went wrong')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'gpurouter;completions' {
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]')
            [CompletionResult]::new('--node', '--node', [CompletionResultType]::ParameterName, 'A node, instead of the configured ones (repeatable)')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print one JSON document instead of text')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more (repeatable)')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more (repeatable)')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say only what went wrong')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say only what went wrong')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
        'gpurouter;man' {
            [CompletionResult]::new('--config', '--config', [CompletionResultType]::ParameterName, 'Configuration file [default: $GPUROUTER_CONFIG, else ./gpurouter.toml, ~/.config/gpurouter/config.toml, /etc/gpurouter/config.toml, else none]')
            [CompletionResult]::new('--node', '--node', [CompletionResultType]::ParameterName, 'A node, instead of the configured ones (repeatable)')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print one JSON document instead of text')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Say more (repeatable)')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Say more (repeatable)')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Say only what went wrong')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Say only what went wrong')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            break
        }
    })

    $completions.Where{ $_.CompletionText -like "$wordToComplete*" } |
        Sort-Object -Property ListItemText
}
