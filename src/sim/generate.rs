//! Runs a simulated model: waits for memory and a slot, for prefill, for each token, and writes what comes out.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::ask::{self, Ask, Form, Refusal};
use super::catalog::Model;
use super::model::{Grant, Need, PREFIX_BLOCK};
use super::node::{Admitted, Exchange, Node, Refused};
use super::reply::Stop;
use super::routes::{Failure, is_unload, not_found, ok};
use super::seed::{Rng, hash};
use super::text::{self, Answer};
use super::trim::{Shape, Trim};
use super::wire::{Counters, Voice};

/// Bytes per token of the sim's own token count.
const BYTES_PER_TOKEN: usize = 4;
/// Texts in one embedding request.
const MAX_INPUTS: usize = 4096;

/// What llama-server says to an embedding request for a model that generates; Ollama passes it on.
const NO_EMBEDDINGS: &str = "This server does not support embeddings. Start it with `--embeddings`";

/// Answers the routes that generate text.
pub(super) fn text(node: &Node, exchange: &mut Exchange, form: Form) -> Result<(), Failure> {
    let ask = Ask::read(form, &exchange.body)?;
    node.note_model(exchange, &ask.model);
    if ask.model.is_empty() && form != Form::Generate {
        return Err(Refusal::new(400, "model is required").into());
    }
    let model = node.find(&ask.model).ok_or_else(|| not_found(&ask.model))?;
    let voice = Voice {
        form,
        model: ask.model.clone(),
        id: hash(&[&node.seed.to_le_bytes(), &exchange.body]),
        created: node.clock.wall(exchange.arrived),
        prompt_tokens: ask.prompt_tokens,
    };
    if ask.empty && is_unload(ask.keep_alive) {
        node.with_machine(|machine, now| machine.unload(now, &model));
        return without_prompt(node, exchange, &voice, "unload");
    }
    check(&model, &ask, form)?;
    let admitted = admit(node, exchange, &model, &ask)?;
    if ask.empty {
        drop(admitted);
        return without_prompt(node, exchange, &voice, "load");
    }
    let answer = run(node, exchange, &voice, &ask, &admitted)?;
    drop(admitted);
    match answer {
        Some(document) => ok(exchange, &document),
        None => Ok(exchange.reply.end()?),
    }
}

fn without_prompt(
    node: &Node,
    exchange: &mut Exchange,
    voice: &Voice,
    reason: &str,
) -> Result<(), Failure> {
    let document = voice.without_prompt(node.clock.wall(node.clock.now()), reason);
    ok(exchange, &document)
}

/// What the model cannot do is refused before anything is loaded.
fn check(model: &Model, ask: &Ask, form: Form) -> Result<(), Refusal> {
    let written = &ask.model;
    let refuse = |message: String| Err(Refusal::new(400, message));
    if !model.can("completion") {
        let what = match form {
            Form::Generate | Form::OpenAiCompletion => "generate",
            _ => "chat",
        };
        return refuse(format!("\"{written}\" does not support {what}"));
    }
    if ask.tools && !model.can("tools") {
        let name = &model.name;
        return refuse(format!(
            "registry.ollama.ai/library/{name} does not support tools"
        ));
    }
    if ask.suffix && !model.can("insert") {
        let name = &model.name;
        return refuse(format!(
            "registry.ollama.ai/library/{name} does not support insert"
        ));
    }
    if ask.think && !model.can("thinking") {
        return refuse(format!("\"{written}\" does not support thinking"));
    }
    Ok(())
}

/// Waits for memory, for a slot and until the model is loaded.
fn admit<'a>(
    node: &'a Node,
    exchange: &Exchange,
    model: &Arc<Model>,
    ask: &Ask,
) -> Result<Admitted<'a>, Failure> {
    let need = Need {
        num_ctx: ask.num_ctx,
        num_gpu: ask.num_gpu,
        keep_alive: ask.keep_alive,
        load_only: ask.empty,
        force_cpu: exchange.struck.cpu,
        prefix: text::prefix(&ask.prompt),
        ..Need::of(Arc::clone(model))
    };
    enter(node, exchange, need)
}

fn enter<'a>(node: &'a Node, exchange: &Exchange, need: Need) -> Result<Admitted<'a>, Failure> {
    let admitted = node
        .admit(need, &exchange.cancel)
        .map_err(|refused| match refused {
            Refused::Gone => Failure::from(Stop::Gone),
            Refused::Busy => Refusal::new(
                503,
                "server busy, please try again.  maximum pending requests exceeded",
            )
            .into(),
        })?;
    wait(node, exchange, admitted.grant.ready_at)?;
    Ok(admitted)
}

fn seconds(tokens: u32, per_second: f64) -> Duration {
    /// Below this speed the longest prompt would outlast the clock.
    const SLOWEST: f64 = 1e-6;
    Duration::from_secs_f64(f64::from(tokens) / per_second.max(SLOWEST))
}

/// Prefill and decode. The document of a whole answer, or none if the answer was streamed.
fn run(
    node: &Node,
    exchange: &mut Exchange,
    voice: &Voice,
    ask: &Ask,
    admitted: &Admitted<'_>,
) -> Result<Option<Value>, Failure> {
    let grant = admitted.grant;
    let (prompt_tokens, fresh) = evaluated(ask, &grant, exchange.struck.truncate, node.seed)?;
    let began = node.clock.now();
    let mut due = began + seconds(fresh, grant.speed.prefill);
    wait(node, exchange, due)?;
    let prefilled = node.clock.now();
    let answer = compose(node, ask);
    if ask.stream {
        exchange.reply.stream(voice.stream_type())?;
        for piece in voice.opening() {
            exchange.reply.piece(&piece)?;
        }
    }
    for piece in &answer.pieces {
        due += seconds(1, grant.speed.decode);
        wait(node, exchange, due)?;
        if ask.stream {
            let at = node.clock.wall(node.clock.now());
            exchange.reply.piece(&voice.token(at, piece))?;
        }
    }
    let ended = node.clock.now();
    let counters = Counters {
        by_limit: answer.cut_by_limit,
        total: ended.saturating_sub(exchange.arrived),
        load: began.saturating_sub(exchange.arrived),
        prompt_tokens,
        prompt: prefilled.saturating_sub(began),
        tokens: u32::try_from(answer.pieces.len()).unwrap_or(u32::MAX),
        eval: ended.saturating_sub(prefilled),
        context: context(voice, ask, prompt_tokens, &answer),
    };
    let at = node.clock.wall(ended);
    if !ask.stream {
        return Ok(Some(voice.whole(at, &answer.pieces.concat(), &counters)));
    }
    for piece in voice.closing(at, &counters, ask.usage) {
        exchange.reply.piece(&piece)?;
    }
    Ok(None)
}

fn wait(node: &Node, exchange: &Exchange, until: Duration) -> Result<(), Stop> {
    if node.clock.wait_until(until, &exchange.cancel) {
        Ok(())
    } else {
        Err(Stop::Gone)
    }
}

/// Tokens of the prompt that are left in the window, and those of them that are not in the slot's cache.
fn evaluated(
    ask: &Ask,
    grant: &Grant,
    trim: Option<Trim>,
    seed: u64,
) -> Result<(u32, u32), Refusal> {
    if !ask.truncate && ask.prompt_tokens > grant.num_ctx {
        return Err(too_long(ask.prompt_tokens, grant.num_ctx));
    }
    let trim = trim.unwrap_or(Trim::shown(Shape::Half));
    let left = trim.left(ask.prompt_tokens, grant.num_ctx, ask.num_predict, seed);
    // A cut moves every token to another place, which makes the cache worthless.
    let cached = if left < ask.prompt_tokens {
        0
    } else {
        u32::try_from(grant.cached_blocks * PREFIX_BLOCK / BYTES_PER_TOKEN).unwrap_or(u32::MAX)
    };
    // The last token is always computed: the answer starts from it.
    Ok((left, left.saturating_sub(cached).max(1)))
}

fn compose(node: &Node, ask: &Ask) -> Answer {
    let name = &node.spec.name;
    if ask.json {
        return text::json_answer(name, ask.num_predict);
    }
    let seed = node.seed ^ ask.seed.map_or(0, i64::cast_unsigned);
    text::answer(
        name,
        seed,
        &ask.prompt,
        node.spec.answer_tokens,
        ask.num_predict,
    )
}

/// Token numbers to go on from: as many as there were tokens, with no meaning.
fn context(voice: &Voice, ask: &Ask, prompt_tokens: u32, answer: &Answer) -> Option<Vec<u32>> {
    if voice.form != Form::Generate || ask.raw {
        return None;
    }
    let mut rng = Rng::new(voice.id);
    let count = (prompt_tokens as usize).saturating_add(answer.pieces.len());
    Some(
        (0..count)
            .map(|_| u32::try_from(rng.below(32_000)).unwrap_or(0))
            .collect(),
    )
}

/// llama-server's refusal, which Ollama passes on as a text inside its own document.
fn too_long(tokens: u32, num_ctx: u32) -> Refusal {
    let inner = json!({
        "error": {
            "code": 400,
            "message": format!(
                "request ({tokens} tokens) exceeds the available context size ({num_ctx} tokens), try increasing it"
            ),
            "type": "exceed_context_size_error",
            "n_prompt_tokens": tokens,
            "n_ctx": num_ctx,
        },
    });
    Refusal::new(400, inner.to_string())
}

/// Answers the three routes of embeddings.
pub(super) fn embeddings(node: &Node, exchange: &mut Exchange) -> Result<(), Failure> {
    let openai = exchange.path == "/v1/embeddings";
    let legacy = exchange.path == "/api/embeddings";
    let empty = if openai {
        "EOF"
    } else {
        "missing request body"
    };
    let map = ask::object(&exchange.body, empty)?;
    let written = ask::text_field(&map, "EmbedRequest", "model")?;
    node.note_model(exchange, &written);
    if written.is_empty() && !legacy {
        return Err(Refusal::new(400, "model is required").into());
    }
    let inputs = inputs(map.get(if legacy { "prompt" } else { "input" }))?;
    let model = node.find(&written).ok_or_else(|| not_found(&written))?;
    if !model.can("embedding") {
        return Err(Refusal::new(if legacy { 500 } else { 501 }, NO_EMBEDDINGS).into());
    }
    let need = Need {
        keep_alive: ask::keep_alive(&map)?,
        force_cpu: exchange.struck.cpu,
        ..Need::of(Arc::clone(&model))
    };
    let admitted = enter(node, exchange, need)?;
    let began = node.clock.now();
    let window = exchange
        .struck
        .truncate
        .map_or(admitted.grant.num_ctx, |trim| {
            trim.embedding(admitted.grant.num_ctx)
        });
    // Embedding models cut to their window without a shift: what is left fills it.
    let tokens = inputs
        .iter()
        .map(|input| text::tokens(input).min(window))
        .fold(0_u32, u32::saturating_add);
    let until = began + seconds(tokens, admitted.grant.speed.prefill);
    wait(node, exchange, until)?;
    drop(admitted);
    let vectors: Vec<Vec<f64>> = inputs
        .iter()
        .map(|input| text::embedding(input, model.embedding_length))
        .collect();
    let nanos = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
    let document = if openai {
        openai_vectors(&written, &vectors, tokens)
    } else if legacy {
        json!({ "embedding": vectors.first() })
    } else {
        json!({
            "model": written,
            "embeddings": vectors,
            "total_duration": nanos(node.clock.now().saturating_sub(exchange.arrived)),
            "load_duration": nanos(began.saturating_sub(exchange.arrived)),
            "prompt_eval_count": tokens,
        })
    };
    ok(exchange, &document)
}

fn openai_vectors(model: &str, vectors: &[Vec<f64>], tokens: u32) -> Value {
    let data: Vec<Value> = vectors
        .iter()
        .enumerate()
        .map(
            |(index, vector)| json!({ "object": "embedding", "embedding": vector, "index": index }),
        )
        .collect();
    json!({
        "object": "list",
        "data": data,
        "model": model,
        "usage": { "prompt_tokens": tokens, "total_tokens": tokens },
    })
}

fn inputs(value: Option<&Value>) -> Result<Vec<String>, Refusal> {
    let list: Vec<&Value> = match value {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(list)) => list.iter().collect(),
        Some(one) => vec![one],
    };
    if list.len() > MAX_INPUTS {
        return Err(Refusal::new(400, "too many inputs"));
    }
    list.into_iter()
        .map(|input| match input {
            Value::String(text) => Ok(text.clone()),
            _ => Err(Refusal::new(400, "invalid input type")),
        })
        .collect()
}
