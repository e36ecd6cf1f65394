//! A graph of one node: it asks a chat model for a joke, and the tokens come as the model says them.

use futures_util::StreamExt;
use runloom_engine::{model::ChatRequest, stream::*, *};
use runloom_models::{Response, Scripted};
use serde::{Deserialize, Serialize};

#[derive(State, Serialize, Deserialize)]
struct Joke {
    topic: String,
    joke: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Any ChatModel does. This one says what it was told to, and needs no key.
    let model = Scripted::new([Response::text("Why was the cat on the keyboard? To keep an eye on the mouse.")])?;
    let call_model = node(move |state: Joke, cx: Context| {
        let model = model.clone();
        async move {
            let ask = value!({"role": "user", "content": format!("Tell me a joke about {}.", state.topic)});
            let request = ChatRequest { messages: vec![ask].into(), ..ChatRequest::default() };
            let reply = cx.chat(&model, request, &[]).await?;
            Ok(Joke::update().joke(reply.get_str("content").unwrap_or_default().to_owned()))
        }
    });
    let graph = StateGraph::<Joke>::new("joke").add_node("call_model", call_model).add_edge(START, "call_model");

    let config = RunConfig { modes: Mode::Messages.into(), ..RunConfig::default() };
    let mut parts = graph.compile()?.stream(value!({"topic": "cats"}), config);
    while let Some(part) = parts.next().await {
        let Payload::Message(message) = part.payload else { continue };
        if let Chunk::Delta { text, .. } = &*message.chunk {
            print!("{text}");
        }
    }
    Ok(parts.finished().transpose().map(|_| println!())?)
}
