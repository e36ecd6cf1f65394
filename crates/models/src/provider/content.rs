//! Content blocks of messages, in LangChain's several forms, as a provider takes them.

use runloom_engine::Value;

use super::ProviderKind;

/// A part of a message's content.
#[derive(Debug)]
pub(crate) enum Part {
    /// Text.
    Text(String),
    /// Anything else: an image, a sound, a file.
    Media(Media),
}

impl Part {
    /// Its text, if it is one.
    pub fn into_text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text),
            Self::Media(_) => None,
        }
    }
}

/// An image, a sound, a video or a file.
#[derive(Debug)]
pub(crate) struct Media {
    pub mime: String,
    pub source: Source,
    pub name: Option<String>,
}

/// Where the bytes of media are.
#[derive(Debug)]
pub(crate) enum Source {
    Url(String),
    Base64(String),
}

impl Media {
    /// Whether its type begins so: `image/`.
    pub fn is(&self, prefix: &str) -> bool {
        self.mime.starts_with(prefix)
    }

    /// Its URL, which may hold the bytes.
    pub fn url(&self) -> String {
        match &self.source {
            Source::Url(url) => url.clone(),
            Source::Base64(data) => format!("data:{};base64,{data}", self.mime),
        }
    }
}

/// The parts of a message's content: a text, or a list of blocks.
pub(crate) fn parts(kind: ProviderKind, content: Option<&Value>) -> Result<Vec<Part>, String> {
    match content {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![Part::Text(text.to_string())]),
        Some(Value::List(blocks)) => blocks.iter().map(|block| part(kind, block)).collect(),
        Some(other) => Err(format!("its content is {}, and not a text or a list of blocks", other.kind())),
    }
}

/// The text of a content, without what else there is.
pub(crate) fn text(content: Option<&Value>) -> String {
    match content {
        Some(Value::String(text)) => text.to_string(),
        Some(Value::List(blocks)) => blocks.iter().filter_map(text_of).collect(),
        _ => String::new(),
    }
}

/// The text of a block that has one.
pub(crate) fn text_of(block: &Value) -> Option<&str> {
    match (block, block.get_str("type")) {
        (Value::String(text), _) => Some(text),
        (_, Some("text" | "text-plain")) => block.get_str("text"),
        _ => None,
    }
}

fn part(kind: ProviderKind, block: &Value) -> Result<Part, String> {
    if let Some(text) = text_of(block) {
        return Ok(Part::Text(text.to_owned()));
    }
    let name = block.get_str("type").unwrap_or("without a type");
    match name {
        "image_url" | "image" | "audio" | "input_audio" | "video" | "file" | "document" => {
            let media = media(name, block).ok_or_else(|| {
                format!("its block of type `{name}` needs `base64` with a `mime_type`, or a `url`; ids of files cannot be sent")
            })?;
            placed(kind, name, media)
        }
        other => Err(format!("a block of type `{other}` cannot be sent to {}", kind.name())),
    }
}

/// Refuses what the provider does not take.
fn placed(kind: ProviderKind, name: &str, media: Media) -> Result<Part, String> {
    let is_url = matches!(media.source, Source::Url(_));
    let no = |what: &str| Err(format!("{} takes no {what}", kind.name()));
    match kind {
        ProviderKind::OpenAi if is_url && !media.is("image/") && !media.is("video/") => {
            no(&format!("`{name}` by URL; send it as base64"))
        }
        ProviderKind::Ollama if !media.is("image/") => no(&format!("`{name}`")),
        ProviderKind::Ollama if is_url => no("images by URL; send them as base64"),
        ProviderKind::Anthropic if media.is("audio/") || media.is("video/") => no(&format!("`{name}`")),
        _ => Ok(Part::Media(media)),
    }
}

fn media(name: &str, block: &Value) -> Option<Media> {
    // What the bytes are: told by the block, else by its type.
    let mime = |within: &Value| within.get_str("mime_type").or_else(|| within.get_str("media_type")).map(str::to_owned);
    let file = ["filename", "name", "title"].iter().find_map(|key| block.get_str(key)).map(str::to_owned);
    let guess = match name {
        "image_url" | "image" => "image/jpeg",
        "audio" | "input_audio" => "audio/wav",
        "video" => "video/mp4",
        _ => "application/pdf",
    };
    let of_url = |url: &Value, mime: Option<String>| {
        let Value::String(url) = url else { return None };
        if let Some((mime, data)) = url.strip_prefix("data:").and_then(|data| data.split_once(";base64,")) {
            return Some(Media { mime: mime.to_owned(), source: Source::Base64(data.to_owned()), name: file.clone() });
        }
        let known = || match (name, url.split(['?', '#']).next().and_then(|path| path.rsplit_once('.'))) {
            ("image_url" | "image", Some((_, end @ ("png" | "gif" | "webp")))) => format!("image/{end}"),
            _ => guess.to_owned(),
        };
        Some(Media { mime: mime.unwrap_or_else(known), source: Source::Url(url.to_string()), name: file.clone() })
    };
    let of_data = |data: &Value, mime: Option<String>| {
        let Value::String(data) = data else { return None };
        Some(Media {
            mime: mime.unwrap_or_else(|| guess.to_owned()),
            source: Source::Base64(data.to_string()),
            name: file.clone(),
        })
    };
    // OpenAI's own forms.
    if let Some(inner) = block.get(name).filter(|_| matches!(name, "image_url" | "input_audio" | "file")) {
        return match name {
            "image_url" => of_url(inner.get("url").unwrap_or(inner), None),
            "input_audio" => {
                of_data(inner.get("data")?, inner.get_str("format").map(|format| format!("audio/{format}")))
            }
            _ => {
                let mut made = of_url(inner.get("file_data")?, None)?;
                made.name = inner.get_str("filename").map(str::to_owned);
                Some(made)
            }
        };
    }
    // Anthropic's.
    if let Some(source) = block.get("source") {
        return match source.get("url") {
            Some(url) => of_url(url, mime(source)),
            None => of_data(source.get("data")?, mime(source)),
        };
    }
    // The standard blocks, of LangChain 1 and of before.
    match (block.get("base64").or_else(|| block.get("data")), block.get("url")) {
        (Some(data), _) => of_data(data, mime(block)),
        (None, Some(url)) => of_url(url, mime(block)),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use runloom_engine::value;

    use super::*;

    fn shown(kind: ProviderKind, block: Value) -> String {
        match part(kind, &block) {
            Ok(Part::Media(media)) => {
                let source = match &media.source {
                    Source::Url(url) => format!("at {url}"),
                    Source::Base64(data) => data.clone(),
                };
                format!("{} {source} {}", media.mime, media.name.unwrap_or_default()).trim_end().to_owned()
            }
            Ok(Part::Text(text)) => text,
            Err(why) => why,
        }
    }

    #[test]
    fn blocks_of_every_form_become_what_they_are() {
        for (block, expected) in [
            (value!({"type": "text", "text": "hi"}), "hi"),
            (value!("hi"), "hi"),
            (value!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}), "image/png AAAA"),
            (value!({"type": "image_url", "image_url": "https://h/cat.png?x=1"}), "image/png at https://h/cat.png?x=1"),
            (
                value!({"type": "image", "source_type": "base64", "data": "AAAA", "mime_type": "image/gif"}),
                "image/gif AAAA",
            ),
            (value!({"type": "image", "base64": "AAAA", "mime_type": "image/webp"}), "image/webp AAAA"),
            (value!({"type": "image", "url": "https://h/cat"}), "image/jpeg at https://h/cat"),
            (
                value!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}),
                "image/png AAAA",
            ),
            (value!({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}}), "audio/mp3 AAAA"),
            (value!({"type": "audio", "base64": "AAAA", "mime_type": "audio/mpeg"}), "audio/mpeg AAAA"),
            (
                value!({"type": "file", "base64": "AAAA", "mime_type": "application/pdf", "filename": "a.pdf"}),
                "application/pdf AAAA a.pdf",
            ),
            (
                value!({"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}}),
                "application/pdf AAAA a.pdf",
            ),
        ] {
            assert_eq!(shown(ProviderKind::OpenAi, block.clone()), expected, "{block}");
        }
    }

    #[test]
    fn what_a_provider_does_not_take_is_refused_and_not_left_out() {
        let by_url = value!({"type": "file", "url": "https://h/a.pdf"});
        assert!(shown(ProviderKind::OpenAi, by_url.clone()).starts_with("openai takes no `file` by URL"));
        assert_eq!(shown(ProviderKind::Gemini, by_url), "application/pdf at https://h/a.pdf");
        let image = value!({"type": "image", "url": "https://h/cat.png"});
        assert_eq!(shown(ProviderKind::Anthropic, image.clone()), "image/png at https://h/cat.png");
        assert!(shown(ProviderKind::Ollama, image).contains("send them as base64"));
        assert!(
            shown(ProviderKind::OpenAi, value!({"type": "file", "file": {"file_id": "f1"}})).contains("ids of files")
        );
        assert!(shown(ProviderKind::OpenAi, value!({"type": "smell"})).contains("`smell` cannot be sent to openai"));
        assert!(parts(ProviderKind::OpenAi, Some(&value!(1))).is_err());
    }
}
