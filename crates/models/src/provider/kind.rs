//! The providers: their names, addresses and usual variables.

/// A provider, by the wire it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProviderKind {
    /// OpenAI's chat completions, there or at any server that speaks them.
    OpenAi,
    /// Anthropic's messages.
    Anthropic,
    /// Google's Gemini.
    Gemini,
    /// Ollama's chat.
    Ollama,
}

impl ProviderKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::OpenAi, Self::Anthropic, Self::Gemini, Self::Ollama];

    /// The names by which documents call them, LangChain's among them.
    pub const NAMES: [&str; 5] = ["openai", "anthropic", "gemini", "google_genai", "ollama"];

    /// The provider of a name.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "openai" => Self::OpenAi,
            "anthropic" => Self::Anthropic,
            "gemini" | "google_genai" => Self::Gemini,
            "ollama" => Self::Ollama,
            _ => return None,
        })
    }

    /// The provider whose models' names begin like this one, as LangChain infers it.
    pub fn of_model(model: &str) -> Option<Self> {
        let starts = |prefixes: &[&str]| prefixes.iter().any(|p| model.starts_with(p));
        if starts(&["gpt-", "o1", "o3", "o4", "chatgpt"]) {
            Some(Self::OpenAi)
        } else if starts(&["claude"]) {
            Some(Self::Anthropic)
        } else if starts(&["gemini"]) {
            Some(Self::Gemini)
        } else {
            None
        }
    }

    /// Its name, in metadata and errors.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "google_genai",
            Self::Ollama => "ollama",
        }
    }

    /// The name that events carry: that of LangChain's class.
    pub fn class(self) -> &'static str {
        match self {
            Self::OpenAi => "ChatOpenAI",
            Self::Anthropic => "ChatAnthropic",
            Self::Gemini => "ChatGoogleGenerativeAI",
            Self::Ollama => "ChatOllama",
        }
    }

    /// The variables that hold its key where a document names none; the first that is set counts.
    pub fn key_variables(self) -> &'static [&'static str] {
        match self {
            Self::OpenAi => &["OPENAI_API_KEY"],
            Self::Anthropic => &["ANTHROPIC_API_KEY"],
            Self::Gemini => &["GOOGLE_API_KEY", "GEMINI_API_KEY"],
            Self::Ollama => &["OLLAMA_API_KEY"],
        }
    }

    /// The variables by which an operator points all models of the provider elsewhere.
    pub fn url_variables(self) -> &'static [&'static str] {
        match self {
            Self::OpenAi => &["OPENAI_BASE_URL", "OPENAI_API_BASE"],
            Self::Anthropic => &["ANTHROPIC_BASE_URL"],
            Self::Gemini => &["GOOGLE_GEMINI_BASE_URL"],
            Self::Ollama => &["OLLAMA_HOST"],
        }
    }

    /// Its own address.
    pub fn url(self) -> &'static str {
        match self {
            Self::OpenAi => "https://api.openai.com/v1/",
            Self::Anthropic => "https://api.anthropic.com/v1/",
            Self::Gemini => "https://generativelanguage.googleapis.com/v1beta/",
            Self::Ollama => "http://localhost:11434/",
        }
    }

    /// Whether calls to its own address need a key.
    pub fn needs_key(self) -> bool {
        self != Self::Ollama
    }

    /// What stands between an address without a path and the calls.
    pub(crate) fn version(self) -> &'static str {
        match self {
            Self::Anthropic => "v1/",
            Self::Gemini => "v1beta/",
            Self::OpenAi | Self::Ollama => "",
        }
    }
}
