//! Where a model's header comes from: a file, the local Ollama store, a node, a registry, any URL with ranges.
