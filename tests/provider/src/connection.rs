//! One connection: requests are read while answers are written, so that its end is noticed at once.

use std::{collections::HashMap, sync::Arc, time::Instant};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::{mpsc, watch},
};

use crate::{Answer, Piece, Seen, Shared};

/// Takes connections.
pub(crate) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((socket, _)) = listener.accept().await {
        let _ = socket.set_nodelay(true);
        tokio::spawn(serve(socket, shared.clone()));
    }
}

async fn serve(socket: TcpStream, shared: Arc<Shared>) {
    let number = shared.change(|state| {
        state.closed.push(None);
        state.closed.len() - 1
    });
    let (reading, mut writing) = socket.into_split();
    let (requests, mut coming) = mpsc::unbounded_channel();
    let (over, mut is_over) = watch::channel(false);
    let noted = shared.clone();
    tokio::spawn(async move {
        let mut reading = BufReader::new(reading);
        while let Some((path, headers, body)) = request(&mut reading).await {
            let answer = noted.change(|state| {
                let seen = Seen { path, headers, body, at: Instant::now(), connection: number };
                let answer = choose(&mut state.scripts, &mut state.given, &seen);
                state.seen.push(seen);
                answer
            });
            if requests.send(answer).is_err() {
                break;
            }
        }
        noted.change(|state| state.closed[number] = Some(Instant::now()));
        let _ = over.send(true);
    });
    while let Some(answer) = coming.recv().await {
        let is_whole = tokio::select! {
            done = write(&mut writing, &answer, &shared) => done.unwrap_or(false),
            _ = is_over.changed() => false,
        };
        if !is_whole {
            return;
        }
    }
}

/// The answer that is next for the model of a request.
fn choose(scripts: &mut HashMap<String, Vec<Answer>>, given: &mut HashMap<String, usize>, seen: &Seen) -> Answer {
    let in_path = seen.path.split("/models/").nth(1).and_then(|rest| rest.split(':').next());
    let model = seen.body.get("model").and_then(Value::as_str).or(in_path).unwrap_or_default();
    let count = given.entry(model.to_owned()).or_default();
    let answers = scripts.get(model).map(Vec::as_slice).unwrap_or_default();
    let answer = answers.get(*count).or(answers.last()).cloned();
    *count += 1;
    answer.unwrap_or_else(|| {
        Answer::json(
            404,
            &json!({"error": {"message": format!("The model `{model}` does not exist"), "code": "model_not_found"}}),
        )
    })
}

/// The next request; none at the connection's end.
async fn request(reading: &mut BufReader<OwnedReadHalf>) -> Option<(String, HashMap<String, String>, Value)> {
    let mut line = String::new();
    if reading.read_line(&mut line).await.ok()? == 0 {
        return None;
    }
    let path = line.split(' ').nth(1)?.to_owned();
    let mut headers = HashMap::new();
    loop {
        line.clear();
        if reading.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reading.read_exact(&mut body).await.ok()?;
    Some((path, headers, serde_json::from_slice(&body).unwrap_or_default()))
}

/// Writes an answer. False where the connection is to be closed.
async fn write(writing: &mut OwnedWriteHalf, answer: &Answer, shared: &Shared) -> std::io::Result<bool> {
    if answer.status == 0 {
        return Ok(false);
    }
    let mut head = format!("HTTP/1.1 {} Told\r\ntransfer-encoding: chunked\r\n", answer.status);
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    writing.write_all(head.as_bytes()).await?;
    for piece in &answer.pieces {
        match piece {
            Piece::Bytes(bytes) => chunk(writing, bytes).await?,
            Piece::Wait(time) => tokio::time::sleep(*time).await,
            Piece::Gate => match shared.gate.0.acquire().await {
                Ok(permit) => permit.forget(),
                Err(_) => return Ok(false),
            },
            Piece::Stall => std::future::pending().await,
            Piece::Flood(bytes) => loop {
                chunk(writing, bytes).await?;
            },
            Piece::HangUp => return Ok(false),
        }
    }
    writing.write_all(b"0\r\n\r\n").await?;
    Ok(true)
}

async fn chunk(writing: &mut OwnedWriteHalf, bytes: &[u8]) -> std::io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    let mut framed = format!("{:x}\r\n", bytes.len()).into_bytes();
    framed.extend_from_slice(bytes);
    framed.extend_from_slice(b"\r\n");
    writing.write_all(&framed).await
}
