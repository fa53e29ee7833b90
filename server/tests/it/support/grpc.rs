//! Unary calls of gRPC as its clients make them, over the HTTP/2 of a library.
use std::time::Duration;

use axum::http::{HeaderMap, Request};
use bytes::Bytes;

use super::Server;

/// Longest that a call may take on a slow, shared machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The answer to a call.
#[derive(Debug)]
pub struct Called {
    pub status: u16,
    pub head: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
}

impl Called {
    /// A header of the trailers, or of a head that has no trailers after it.
    fn end(&self, name: &str) -> Option<&str> {
        self.trailers.as_ref().unwrap_or(&self.head).get(name)?.to_str().ok()
    }

    /// The `grpc-status`.
    pub fn code(&self) -> u8 {
        self.end("grpc-status").unwrap_or_else(|| panic!("no grpc-status: {self:?}")).parse().unwrap()
    }

    /// The `grpc-message`, as far as tests look at it.
    pub fn message(&self) -> String {
        self.end("grpc-message").unwrap_or_default().replace("%20", " ")
    }

    /// The `grpc-status-details-bin`, still in base 64.
    pub fn details(&self) -> &str {
        self.end("grpc-status-details-bin").unwrap_or_default()
    }

    /// The one message of a success.
    pub fn answer(&self) -> &[u8] {
        assert_eq!((self.status, self.code(), self.trailers.is_some()), (200, 0, true), "{self:?}");
        let (head, message) = self.body.split_first_chunk::<5>().unwrap();
        assert_eq!((head[0], u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize), (0, message.len()));
        message
    }
}

/// `message` behind the head that says how long it is, and whether it is compressed.
pub fn framed(is_compressed: bool, message: &[u8]) -> Vec<u8> {
    [&[u8::from(is_compressed)][..], &(message.len() as u32).to_be_bytes(), message].concat()
}

async fn connect(server: &Server) -> h2::client::SendRequest<Bytes> {
    let address = server.grpc_url.strip_prefix("http://").unwrap();
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    client.ready().await.unwrap()
}

/// The messages of a call whose answer goes on.
pub struct Streamed {
    runtime: tokio::runtime::Runtime,
    incoming: h2::RecvStream,
    read: Vec<u8>,
}

impl Streamed {
    /// Calls `path` with `message`.
    pub fn open(server: &Server, path: &str, message: &[u8]) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let call = async {
            let mut client = connect(server).await;
            let request = Request::post(format!("{}{path}", server.grpc_url));
            let request = request.header("te", "trailers").header("content-type", "application/grpc");
            let (answer, mut sending) = client.send_request(request.body(()).unwrap(), false).unwrap();
            sending.send_data(framed(false, message).into(), true).unwrap();
            let (head, incoming) = answer.await.unwrap().into_parts();
            assert_eq!(
                (head.status.as_u16(), head.headers["content-type"].as_bytes()),
                (200, &b"application/grpc"[..])
            );
            incoming
        };
        let incoming =
            runtime.block_on(async { tokio::time::timeout(PATIENCE, call).await }).expect("an answer in time");
        Self { runtime, incoming, read: Vec::new() }
    }

    /// The next message, or the status at the end.
    pub fn next(&mut self) -> Result<Vec<u8>, u8> {
        let (incoming, read) = (&mut self.incoming, &mut self.read);
        let next = async {
            loop {
                if let Some((head, rest)) = read.split_first_chunk::<5>() {
                    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
                    if rest.len() >= length {
                        let message = rest[..length].to_vec();
                        read.drain(..5 + length);
                        return Ok(message);
                    }
                }
                match incoming.data().await {
                    Some(chunk) => {
                        let chunk = chunk.unwrap();
                        incoming.flow_control().release_capacity(chunk.len()).unwrap();
                        read.extend_from_slice(&chunk);
                    }
                    None => {
                        let trailers = incoming.trailers().await.unwrap().expect("trailers");
                        return Err(trailers["grpc-status"].to_str().unwrap().parse().unwrap());
                    }
                }
            }
        };
        self.runtime.block_on(async { tokio::time::timeout(PATIENCE, next).await }).expect("a message in time")
    }
}

/// Calls `path` of the server's port for gRPC.
pub fn call(server: &Server, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Called {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let call = async {
        let mut client = connect(server).await;
        let mut request = Request::post(format!("{}{path}", server.grpc_url)).header("te", "trailers");
        if !headers.iter().any(|header| header.0 == "content-type") {
            request = request.header("content-type", "application/grpc");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (answer, mut sending) = client.send_request(request.body(()).unwrap(), false).unwrap();
        sending.send_data(Bytes::copy_from_slice(body), true).unwrap();
        let (head, mut incoming) = answer.await.unwrap().into_parts();
        let mut body = Vec::new();
        while let Some(chunk) = incoming.data().await {
            let chunk = chunk.unwrap();
            incoming.flow_control().release_capacity(chunk.len()).unwrap();
            body.extend_from_slice(&chunk);
        }
        let trailers = incoming.trailers().await.unwrap();
        Called { status: head.status.as_u16(), head: head.headers, body, trailers }
    };
    runtime.block_on(async { tokio::time::timeout(PATIENCE, call).await }).expect("an answer in time")
}
