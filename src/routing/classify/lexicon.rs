//! The words that the scorer knows, by what they say about an ask. Lower case, without accents; English first, then Portuguese, then
//! some Spanish, German, French and Chinese. A blank separates words that follow each other in the ask.

/// What a word says about an ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    /// Asks for work that needs the large model, whatever its object.
    Heavy,
    /// Asks to make something; its object tells how much work that is.
    Make,
    /// Asks for a change or a piece of work of ordinary size.
    Work,
    /// Asks for something small.
    Light,
    /// Asks to be told something; verbs after it in the clause are what is told about.
    Tell,
    /// Greets or thanks.
    Greet,
    /// A request that a chat front end makes for itself (titles, tags).
    Housekeeping,
    /// A small object of a verb.
    SmallObject,
    /// An object of ordinary size.
    MediumObject,
    /// A large object.
    LargeObject,
    /// A subject that needs much knowledge.
    DeepTopic,
    /// The work reaches over much.
    WideScope,
    /// Asks to weigh, to argue or to find causes.
    Analysis,
    /// Demands that the answer has to meet.
    Constraint,
    /// More than a bare explanation.
    Depth,
    /// Steps in an order.
    Steps,
    /// Makes the verb after it no request.
    Negation,
}

/// The word lists.
#[rustfmt::skip]
pub(super) const LEXICON: &[(Group, &[&str])] = &[
    (Group::Heavy, &[
        "implement", "reimplement", "implementing", "design", "redesign", "architect", "rearchitect", "build", "rebuild", "building",
        "develop", "engineer", "prove", "derive", "optimize", "optimise", "migrate", "audit", "formalize", "formalise", "parallelize",
        "parallelise", "analyze", "analyse", "evaluate", "investigate", "reverse engineer", "scale", "port the entire",
        "implemente", "implementar", "implementa", "projete", "projetar", "desenhe", "desenvolva", "desenvolver", "construa", "construir",
        "arquitete", "prove que", "demonstre", "derive as", "otimize", "otimizar", "migre", "migrar", "audite", "analise", "analisar",
        "avalie", "redesenhe", "reescreva todo",
        "disena", "disenar", "desarrolla", "construye", "demuestra", "deriva", "optimiza", "migra", "audita", "analiza", "redisena",
        "entwirf", "entwerfen", "entwickle", "implementiere", "baue", "beweise", "optimiere", "migriere", "analysiere",
        "concevez", "concois", "concevoir", "developpez", "implementez", "construisez", "demontrez", "optimisez", "analysez",
        "实现", "设计", "构建", "搭建", "开发", "证明", "推导", "优化", "迁移", "审查", "审计", "分析", "架构",
    ]),
    (Group::Make, &[
        "create", "write", "make", "generate", "produce", "code", "give me", "compose", "prepare", "set up",
        "crie", "criar", "escreva", "escrever", "faca", "fazer", "gere", "gerar", "monte", "elabore", "prepare",
        "crea", "crear", "escribe", "escribir", "haz", "genera", "redacta",
        "erstelle", "schreibe", "schreib", "generiere", "creez", "ecris", "ecrivez", "cree",
        "写", "编写", "创建", "生成", "制定",
    ]),
    (Group::Work, &[
        "refactor", "fix", "add", "improve", "modernize", "modernise", "convert", "compare", "review", "test", "extract", "replace",
        "rewrite", "plan", "draft", "summarize", "summarise", "debug", "update", "change", "adapt", "extend", "port", "clean up",
        "simplify", "troubleshoot", "find", "edit", "outline", "why", "split", "validate", "correct", "handle", "integrate", "upgrade",
        "refatore", "refatorar", "corrija", "corrigir", "adicione", "adicionar", "melhore", "melhorar", "converta", "compare", "revise",
        "teste", "extraia", "substitua", "planeje", "planeie", "resuma", "resumir", "depure", "atualize", "descubra", "encontre",
        "por que", "simplifique", "altere", "mude",
        "refactoriza", "corrige", "anade", "agrega", "mejora", "convierte", "compara", "revisa", "resume", "averigua", "encuentra",
        "por que", "actualiza", "sustituye",
        "refaktoriere", "korrigiere", "fuge", "verbessere", "vergleiche", "prufe", "fasse", "finde", "warum",
        "corrigez", "ajoutez", "ameliorez", "comparez", "resumez", "pourquoi",
        "重构", "修正", "修复", "改成", "加上", "添加", "添加", "总结", "调试", "比较", "找出", "为什么", "改写", "检查",
    ]),
    (Group::Light, &[
        "document", "comment", "rename", "translate", "list", "show", "show me", "remove", "delete", "run", "rerun", "format", "lint",
        "define", "spell", "count", "open", "print", "say", "commit", "push", "sort these", "capitalize", "uppercase", "indent",
        "documente", "comente", "renomeie", "traduza", "traduzir", "liste", "mostre", "remova", "apague", "execute", "rode", "formate",
        "defina", "abra", "conte",
        "documenta", "comenta", "renombra", "traduce", "lista", "muestrame", "muestra", "elimina", "borra", "ejecuta", "formatea",
        "dokumentiere", "kommentiere", "ubersetze", "zeige", "entferne", "losche", "traduisez", "traduis", "montre", "supprimez",
        "翻译", "重命名", "显示", "列出", "删除", "运行",
    ]),
    (Group::Tell, &[
        "explain", "explaining", "describe", "tell me", "what", "what's", "which", "who", "when", "where", "how do i", "how can i",
        "how to", "how many", "how much", "how long", "how old", "how far", "is there", "is it", "does", "is", "are", "can i",
        "explique", "explicar", "descreva", "diga", "qual", "quais", "o que", "quem", "quando", "onde", "como", "quantos", "quantas",
        "quanto", "quanta",
        "explica", "cual", "cuales", "que", "quien", "cuando", "donde", "como", "cuantos", "cuantas", "cuanto", "dime",
        "erklare", "was", "welche", "welcher", "wer", "wann", "wo", "wie", "explique", "quel", "quelle", "qui", "quand", "comment",
        "是什么", "什么是", "什么意思", "是哪里", "多少", "怎么", "如何", "解释", "举例说明", "谁", "哪个", "几点",
    ]),
    (Group::Greet, &[
        "hi", "hello", "hey", "thanks", "thank you", "thx", "good morning", "good evening", "bye", "great work", "perfect", "cheers",
        "ola", "oi", "obrigado", "obrigada", "bom dia", "boa tarde", "boa noite", "valeu", "tchau",
        "hola", "gracias", "buenos dias", "hallo", "danke", "guten tag", "bonjour", "merci", "salut", "你好", "谢谢", "您好",
    ]),
    (Group::Housekeeping, &[
        "short title", "succinct title", "concise title", "title for this", "title for the", "word title", "a title", "commit message",
        "chat title", "conversation title", "broad tags", "follow up questions", "thread title", "branch name",
        "titulo curto", "titulo para esta", "mensagem de commit", "titulo breve", "mensaje de commit", "提交信息", "标题",
    ]),
    (Group::SmallObject, &[
        "docstring", "docstrings", "comment", "comments", "typo", "typos", "spelling", "indentation", "whitespace", "semicolon",
        "readme", "synonym", "synonyms", "antonym", "variable name", "import", "imports", "newline", "print statement", "documentation",
        "license header", "changelog entry", "gitignore", "greeting",
        "comentario", "comentarios", "erro de digitacao", "indentacao", "espaco", "sinonimo", "documentacao",
        "errata", "documentacion", "kommentar", "kommentare", "tippfehler", "commentaire", "commentaires",
        "注释", "文档注释", "错别字", "缩进", "同义词",
    ]),
    (Group::MediumObject, &[
        "function", "functions", "method", "test", "tests", "unit test", "unit tests", "script", "query", "regex", "regular expression",
        "email", "e mail", "letter", "story", "poem", "essay", "article", "paragraph", "summary", "endpoint", "logging", "validation", "form", "type hints",
        "error handling", "helper", "component", "example", "examples", "dockerfile", "makefile", "button", "page", "table", "loop",
        "haiku", "post", "tweet", "snippet", "one liner", "config", "fixture", "mock", "mocks", "class", "slogan", "joke", "recipe",
        "funcao", "funcoes", "metodo", "teste", "testes", "consulta", "expressao regular", "carta", "historia", "poema", "paragrafo",
        "resumo", "validacao", "formulario", "classe", "exemplo", "pagina", "tabela", "receita", "botao",
        "funcion", "funciones", "prueba", "pruebas", "correo", "cuento", "parrafo", "validacion", "clase", "ejemplo",
        "funktion", "methode", "skript", "klasse", "abfrage", "brief", "fonction", "lettre", "courriel", "requete",
        "函数", "脚本", "单元测试", "测试", "邮件", "表单", "查询", "故事", "正则", "方法",
    ]),
    (Group::LargeObject, &[
        "api", "apis", "system", "systems", "service", "services", "platform", "engine", "architecture", "application", "app", "framework",
        "compiler", "interpreter", "server", "database", "layer", "protocol", "library", "pipeline", "infrastructure", "schema", "parser",
        "cache", "queue", "scheduler", "strategy", "backend", "dashboard", "game", "emulator", "kernel", "allocator", "orm", "crawler",
        "runtime", "simulator", "marketplace", "cli", "business plan", "roadmap", "thesis", "load balancer", "plugin system",
        "sistema", "sistemas", "servico", "servicos", "plataforma", "motor", "arquitetura", "aplicacao", "aplicativo", "servidor",
        "banco de dados", "camada", "protocolo", "biblioteca", "infraestrutura", "estrategia", "fila", "jogo", "compilador",
        "servicio", "arquitectura", "aplicacion", "capa", "cola", "juego",
        "architektur", "dienst", "plattform", "anwendung", "datenbank", "bibliothek", "plateforme", "systeme", "bibliotheque",
        "系统", "平台", "引擎", "架构", "服务", "应用", "数据库", "策略", "框架", "编译器",
    ]),
    (Group::DeepTopic, &[
        "distributed", "concurrent", "concurrency", "thread safe", "lock free", "wait free", "memory ordering", "consensus", "raft", "paxos",
        "transaction", "transactions", "consistency", "encrypted", "encryption", "cryptographic", "oauth", "oauth2", "authentication",
        "authorization", "kubernetes", "microservices", "type inference", "backpropagation", "transformer", "gradient", "latency",
        "throughput", "p99", "scalable", "scalability", "fault tolerant", "fault tolerance", "high availability", "failover", "sharding",
        "replication", "real time", "event sourcing", "multi tenant", "multi region", "race condition", "deadlock", "memory leak",
        "vulnerabilities", "vulnerability", "cryptography", "theorem", "undecidable", "halting problem", "irrational", "np complete",
        "complexity theory", "leader election", "crash recovery", "bloom filter", "bloom filters", "lsm", "b tree", "garbage collection",
        "query planner", "hexagonal", "domain driven", "websocket", "zero downtime", "disaster recovery", "quantum", "differential equation",
        "inflation", "regimes", "regulatory", "statistical", "monte carlo", "algorithm", "rollback plan", "rate limiter",
        "distribuido", "distribuida", "concorrencia", "consistencia", "autenticacao", "autorizacao", "criptografia", "microsservicos",
        "tolerante a falhas", "alta disponibilidade", "condicao de corrida", "vulnerabilidades", "tempo real", "teorema", "indisponibilidade",
        "recuperacao de desastres", "retropropagacao", "irracional", "multirregiao", "algoritmo", "inflacao",
        "distribuidos", "tiempo real", "microservicios", "autenticacion", "condicion de carrera", "retropropagacion", "multirregion",
        "recuperacion ante desastres", "inflacion", "millones de usuarios",
        "ausfallsicher", "ausfallsichere", "verteilt", "verteiltes", "nebenlaufig", "distribue", "distribuee",
        "分布式", "并发", "一致性", "高可用", "竞态条件", "微服务", "加密", "认证", "漏洞", "容错", "反向传播", "灾难恢复", "不停机", "算法",
    ]),
    (Group::WideScope, &[
        "entire", "whole", "across", "end to end", "from scratch", "codebase", "every module", "all services", "all modules", "all the files",
        "module by module", "complete", "production ready", "enterprise", "millions of", "billion", "large scale", "full stack",
        "todo o", "toda a", "todos os servicos", "do zero", "completo", "completa", "milhoes de", "de ponta a ponta",
        "todos los servicios", "desde cero", "todo el", "millones de", "gesamte", "von grund auf", "millionen",
        "整个", "所有服务", "从零", "完整", "全面",
    ]),
    (Group::Analysis, &[
        "trade offs", "trade off", "tradeoffs", "root cause", "implications", "weigh", "recommendation", "argue", "justify", "quantify",
        "threat model", "failure modes", "pros and cons of each", "should we", "critically", "rigorous", "rigorously", "backtest",
        "compromissos", "causa raiz", "implicacoes", "recomendacao", "pese", "justifique", "devemos", "modos de falha",
        "compromisos", "implicaciones", "recomendacion", "sopesa", "deberiamos", "modos de fallo",
        "kompromisse", "ursache", "abwagen", "权衡", "取舍", "根本原因", "影响", "建议", "是否应该", "故障模式",
    ]),
    (Group::Constraint, &[
        "without", "must", "including", "considering", "ensure", "at least", "at most", "no more than", "so that", "such that", "guarantee",
        "sem", "incluindo", "considerando", "garanta", "deve", "devem", "no maximo", "no minimo",
        "sin", "incluyendo", "considerando", "debe", "ohne", "muss", "inklusive", "sans", "avec", "doit",
        "包括", "考虑", "必须", "确保", "不使用", "要求",
    ]),
    (Group::Depth, &[
        "difference between", "differences between", "with an example", "with examples", "in detail", "in depth", "how it works", "works",
        "work internally", "under the hood", "advantages", "disadvantages", "pros and cons", "compare", "step by step guide", "with its",
        "diferenca entre", "diferencas entre", "com um exemplo", "com exemplos", "em detalhe", "em detalhes", "funciona", "vantagens",
        "desvantagens", "diferencia entre", "con un ejemplo", "en detalle", "ventajas", "desventajas",
        "unterschied zwischen", "mit einem beispiel", "difference entre", "区别", "举例", "详细", "优缺点", "原理",
    ]),
    (Group::Steps, &[
        "first", "then", "after that", "finally", "step 1", "next", "followed by",
        "primeiro", "depois", "em seguida", "por fim", "primero", "luego", "despues", "zuerst", "danach", "dann", "d'abord", "ensuite",
        "首先", "然后", "接着", "最后",
    ]),
    (Group::Negation, &[
        "don't", "dont", "do not", "doesn't", "not", "never", "no need to", "instead of", "rather than", "without", "no", "stop",
        "nao", "nunca", "sem", "em vez de", "nunca", "sin", "nicht", "kein", "ne", "pas", "不要", "别", "无需", "不用",
    ]),
];

/// Words after which an English verb form is a noun, or belongs to one.
pub(super) const DETERMINERS: [&str; 22] = [
    "the", "a", "an", "this", "that", "these", "those", "my", "our", "your", "its", "his", "her",
    "their", "of", "each", "every", "which", "any", "some", "same", "new",
];

/// Words that join a verb to the one before on equal terms.
pub(super) const CONJUNCTIONS: [&str; 12] = [
    "and", "then", "or", "e", "depois", "y", "und", "et", "并", "并且", "然后", "but",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_lower_case_and_without_accents() {
        for (group, words) in LEXICON {
            for word in *words {
                assert_eq!(*word, word.to_lowercase(), "{group:?}");
                let latin_accent = word.chars().find(|c| matches!(c, '\u{C0}'..='\u{24F}'));
                assert_eq!(latin_accent, None, "{group:?}: {word}");
            }
        }
    }
}
