//! The ways in which servers cut a prompt that is longer than their window, without a word.

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// What llama.cpp's context shift keeps: the first four tokens and the newer half of the rest. Ollama 0.32.15 showed 1,026 of 9,000
    /// tokens at 2,048 and 2,050 at 4,096 (data/wire, `chat_long_prompt`).
    Half,
    /// The first few and the newest, the window exactly full: Ollama before it used llama-server.
    Window,
    /// The front goes, and room for the answer stays: `KoboldCpp`, text-generation-webui.
    Front,
    /// The end goes, as most embedding servers do.
    Tail,
    /// The middle goes: LM Studio's usual policy.
    Middle,
}

/// Tokens that are kept from the front where a server keeps any.
const KEEP: u32 = 4;

impl Shape {
    /// Every way.
    pub const ALL: [Self; 5] = [
        Self::Half,
        Self::Window,
        Self::Front,
        Self::Tail,
        Self::Middle,
    ];

    /// The way of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|shape| shape.name() == name)
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Half => "half",
            Self::Window => "window",
            Self::Front => "front",
            Self::Tail => "tail",
            Self::Middle => "middle",
        }
    }

    /// Tokens that are left of a prompt of `tokens` in a window. `answer` is the limit of the answer, where there is one; `secret` decides
    /// what a server does not tell of itself (which few tokens it keeps free for a marker or an end).
    pub fn left(self, tokens: u32, window: u32, answer: Option<u32>, secret: u64) -> u32 {
        let room = match self {
            Self::Front => window - answer.unwrap_or(0).min(window / 2),
            _ => window,
        };
        if tokens <= room {
            return tokens;
        }
        let spare = u32::try_from(secret % 4).unwrap_or(0);
        match self {
            Self::Half => {
                let keep = KEEP.min(window);
                keep + (window - keep) / 2
            }
            Self::Window => window,
            Self::Front => room,
            Self::Tail | Self::Middle => window - spare.min(window / 8),
        }
    }
}

/// A way of cutting, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trim {
    /// The way.
    pub shape: Shape,
    /// The window, where it is another than the one that is shown.
    pub window: Option<u32>,
}

impl Trim {
    /// At the window that is shown.
    pub fn shown(shape: Shape) -> Self {
        Self {
            shape,
            window: None,
        }
    }

    /// As if the window were this long, whatever is shown.
    pub fn hidden(shape: Shape, window: u32) -> Self {
        Self {
            shape,
            window: Some(window),
        }
    }

    /// Tokens that are left of a prompt in a context of `shown` tokens.
    pub(super) fn left(self, tokens: u32, shown: u32, answer: Option<u32>, secret: u64) -> u32 {
        let window = self.window.map_or(shown, |window| window.min(shown));
        self.shape.left(tokens, window, answer, secret)
    }

    /// The window that an embedding is cut to: embedding models have no shift, what is left fills it.
    pub(super) fn embedding(self, shown: u32) -> u32 {
        self.window.map_or(shown, |window| window.min(shown))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_that_fits_stays_whole_and_a_longer_one_never_grows() {
        for shape in Shape::ALL {
            for window in [1, 5, 512, 2048] {
                for tokens in [1, 4, 511, 2048, 2049, 9031, 100_000] {
                    for secret in 0..4 {
                        let left = shape.left(tokens, window, Some(100), secret);
                        assert!(left <= tokens && left <= window, "{shape:?} {window}");
                        let room = window
                            - if shape == Shape::Front {
                                100.min(window / 2)
                            } else {
                                0
                            };
                        assert_eq!(
                            left == tokens,
                            tokens <= room || left == tokens,
                            "{shape:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn half_is_what_ollama_showed() {
        assert_eq!(Shape::Half.left(9031, 2048, None, 0), 1026);
        assert_eq!(Shape::Half.left(9031, 4096, None, 0), 2050);
        assert_eq!(Shape::Half.left(2048, 2048, None, 0), 2048);
        assert_eq!(Shape::Half.left(5, 1, None, 0), 1);
    }
}
