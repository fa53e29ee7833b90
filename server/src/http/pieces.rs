//! A body that is there already, in pieces.
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

/// The body that `all` are together, of a length that is told.
pub(super) fn body(all: Arc<[Bytes]>) -> Body {
    match &*all {
        [one] => Body::from(one.clone()),
        _ => Body::new(Pieces { all, sent: 0 }),
    }
}

struct Pieces {
    all: Arc<[Bytes]>,
    sent: usize,
}

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.all.get(self.sent).cloned();
        self.sent += usize::from(piece.is_some());
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.sent == self.all.len()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.all[self.sent..].iter().map(|piece| piece.len() as u64).sum())
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use hyper::body::Body as _;

    use super::*;

    #[tokio::test]
    async fn pieces_come_one_after_the_other_and_their_length_is_told_before() {
        for texts in [&["one"] as &[&'static str], &[], &["a", "", "bcd", "e"]] {
            let body = body(texts.iter().map(|text| Bytes::from_static(text.as_bytes())).collect());
            let whole = texts.concat();
            assert_eq!(body.size_hint().exact(), Some(whole.len() as u64));
            assert_eq!(body.collect().await.unwrap().to_bytes(), whole);
        }
    }
}
