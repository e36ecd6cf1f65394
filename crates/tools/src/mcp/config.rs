//! Which MCP servers there are, as the operator's file says: `{"mcpServers": {…}}`, the form that MCP's clients share.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use serde::Deserialize;

/// How long a server may take to start and to list its tools. The first start of one from a registry downloads it.
const START: Duration = Duration::from_secs(60);
/// How long a call may take without a sign of life.
const CALL: Duration = Duration::from_secs(120);

/// The servers of a file, by name.
#[derive(Clone, Debug, Default)]
pub struct McpConfig {
    pub(super) servers: BTreeMap<Arc<str>, ServerConfig>,
}

/// A server.
#[derive(Clone, Debug)]
pub(super) struct ServerConfig {
    pub place: Place,
    /// How long a call may take without progress.
    pub timeout: Duration,
    pub start_timeout: Duration,
}

/// Where a server is.
#[derive(Clone, PartialEq)]
pub(super) enum Place {
    /// A process of ours, spoken to over its standard input and output.
    Command { command: String, args: Vec<String>, env: BTreeMap<String, String>, cwd: Option<String> },
    /// Somewhere else, over streamable HTTP.
    Url { url: String, headers: BTreeMap<String, String> },
}

impl Place {
    /// What a library says of a server, without where the server is: an address may hold a key, and is the operator's to know.
    pub fn hidden(&self, text: String) -> String {
        let mut text = text;
        // Types of a library are nobody's to read.
        if let (Some(at), Some(end)) = (text.find("Transport ["), text.find("] error: "))
            && at < end
        {
            text.replace_range(at..end + "] error: ".len(), "");
        }
        let Self::Url { url, headers } = self else { return text };
        // As the library under the transport writes it.
        while let Some(at) = text.find(" for url (") {
            let end = text[at..].find(')').map_or(text.len(), |end| at + end + 1);
            text.replace_range(at..end, "");
        }
        let parsed = reqwest::Url::parse(url).ok();
        let written = parsed.iter().flat_map(|url| [url.to_string(), url.query().unwrap_or_default().to_owned()]);
        for secret in [url.clone()].into_iter().chain(written).chain(headers.values().cloned()) {
            if !secret.is_empty() {
                text = text.replace(&secret, "…");
            }
        }
        text
    }
}

impl std::fmt::Debug for Place {
    /// Without what may be keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Command { command, .. } => write!(f, "{command}"),
            Self::Url { .. } => f.write_str("a URL"),
        }
    }
}

#[derive(Deserialize)]
struct File {
    #[serde(rename = "mcpServers")]
    servers: BTreeMap<Arc<str>, Written>,
}

/// A server as it is written. Other clients keep more here, which is none of ours.
#[derive(Deserialize)]
struct Written {
    #[serde(rename = "type")]
    kind: Option<String>,
    command: Option<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    cwd: Option<String>,
    url: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    disabled: bool,
    timeout_ms: Option<u64>,
    start_timeout_ms: Option<u64>,
}

impl McpConfig {
    /// Reads a file. `${NAME}` stands for a variable of the environment, `${NAME:-text}` for one that may be missing.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        Self::parse(&text, |name| std::env::var(name).ok())
    }

    /// Reads what a file says.
    pub fn parse(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let file: File = serde_json::from_str(text)
            .map_err(|error| format!("{error}; expected {{\"mcpServers\": {{\"name\": {{\"command\": …}}}}}}"))?;
        let mut servers = BTreeMap::new();
        for (name, written) in file.servers {
            if written.disabled {
                continue;
            }
            let server = written.server(&variable).map_err(|what| format!("server `{name}`: {what}"))?;
            servers.insert(name, server);
        }
        Ok(Self { servers })
    }
}

impl Written {
    fn server(self, variable: &impl Fn(&str) -> Option<String>) -> Result<ServerConfig, String> {
        let expand = |text: &str| expanded(text, variable);
        let all = |map: &BTreeMap<String, String>| {
            map.iter().map(|(name, text)| Ok((name.clone(), expand(text)?))).collect::<Result<BTreeMap<_, _>, String>>()
        };
        let place = match (&self.command, &self.url, self.kind.as_deref()) {
            (Some(_), Some(_), _) => return Err("has both a `command` and a `url`".to_owned()),
            (Some(command), None, None | Some("stdio")) => Place::Command {
                command: expand(command)?,
                args: self.args.iter().map(|arg| expand(arg)).collect::<Result<_, _>>()?,
                env: all(&self.env)?,
                cwd: self.cwd.as_deref().map(expand).transpose()?,
            },
            (None, Some(url), None | Some("http" | "streamable-http" | "streamableHttp" | "streamable_http")) => {
                Place::Url { url: expand(url)?, headers: all(&self.headers)? }
            }
            (None, Some(_), Some("sse")) => {
                return Err("speaks the older SSE transport; use its streamable HTTP address".to_owned());
            }
            (None, None, _) => return Err("needs a `command` to start, or a `url` to call".to_owned()),
            (_, _, Some(kind)) => return Err(format!("`type` is `{kind}`, and does not fit what else it says")),
        };
        let time = |ms: Option<u64>, otherwise| ms.filter(|ms| *ms > 0).map_or(otherwise, Duration::from_millis);
        Ok(ServerConfig {
            place,
            timeout: time(self.timeout_ms, CALL),
            start_timeout: time(self.start_timeout_ms, START),
        })
    }
}

/// A text with its variables put in.
fn expanded(text: &str, variable: &impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (inner, behind) =
            after.split_once('}').ok_or_else(|| format!("`{text}` opens a `${{` and does not close it"))?;
        let (name, otherwise) = match inner.split_once(":-") {
            Some((name, otherwise)) => (name, Some(otherwise)),
            None => (inner, None),
        };
        out.push_str(before);
        match (variable(name), otherwise) {
            (Some(value), _) => out.push_str(&value),
            (None, Some(otherwise)) => out.push_str(otherwise),
            (None, None) => return Err(format!("the variable {name} is not set")),
        }
        rest = behind;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<McpConfig, String> {
        McpConfig::parse(text, |name| (name == "TOKEN").then(|| "s3cret".to_owned()))
    }

    #[test]
    fn an_address_and_its_keys_are_hidden() {
        let headers = BTreeMap::from([("authorization".to_owned(), "Bearer sesame".to_owned())]);
        let place = Place::Url { url: "http://10.0.0.1:9/mcp?api_key=open".to_owned(), headers };
        let said = "Transport [a::B<c::D>] error: error sending request for url (http://10.0.0.1:9/mcp?api_key=open): Bearer sesame, api_key=open";
        assert_eq!(place.hidden(said.to_owned()), "error sending request: …, …");
    }

    #[test]
    fn a_file_of_other_clients_is_read() {
        let config = read(
            r#"{"mcpServers": {
                "fs": {"command": "npx", "args": ["-y", "x", "${HOME_OF:-/srv}"], "env": {"K": "${TOKEN}"}, "autoApprove": []},
                "far": {"type": "http", "url": "https://example.org/mcp", "headers": {"Authorization": "Bearer ${TOKEN}"}},
                "off": {"command": "x", "disabled": true},
                "slow": {"command": "x", "timeout_ms": 5, "start_timeout_ms": 7}
            }, "other": 1}"#,
        )
        .unwrap();
        let names: Vec<&str> = config.servers.keys().map(|n| &**n).collect();
        assert_eq!(names, ["far", "fs", "slow"]);
        let Place::Command { command, args, env, .. } = &config.servers["fs"].place else { panic!() };
        assert_eq!((command.as_str(), args[2].as_str(), env["K"].as_str()), ("npx", "/srv", "s3cret"));
        let Place::Url { headers, .. } = &config.servers["far"].place else { panic!() };
        assert_eq!(headers["Authorization"], "Bearer s3cret");
        assert_eq!(config.servers["slow"].timeout, Duration::from_millis(5));
        assert!(!format!("{config:?}").contains("s3cret"), "{config:?}");
    }

    #[test]
    fn what_is_wrong_with_a_server_is_told_with_its_name() {
        for (server, says) in [
            ("{}", "server `x`: needs a `command`"),
            (r#"{"command": "a", "url": "b"}"#, "both"),
            (r#"{"url": "http://x", "type": "sse"}"#, "streamable HTTP"),
            (r#"{"url": "http://x", "type": "stdio"}"#, "`type` is `stdio`"),
            (r#"{"command": "a", "args": ["${NOT_SET}"]}"#, "the variable NOT_SET is not set"),
            (r#"{"command": "a", "args": ["${NOT"]}"#, "does not close it"),
        ] {
            let error = read(&format!(r#"{{"mcpServers": {{"x": {server}}}}}"#)).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
        assert!(read("{}").unwrap_err().contains("mcpServers"));
    }
}
