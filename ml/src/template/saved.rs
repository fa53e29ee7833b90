//! A miner as bytes. Little endian:
//!
//! ```text
//! u8 version │ u32 clusters_max │ u64 bytes_max │ u64 refused │ u32 clusters │ then per cluster, by id:
//!   u64 count │ u16 tokens │ per token: u8 kind, u16 length │ the texts, one after the other
//! ```
//! Ids, and which cluster belongs to which, follow from the skeletons and are made again; so equal states are equal bytes.
use super::hash;
use super::line::{Kind, LINE_BYTES_MAX, SLOT_HASH, TOKENS_MAX, Token, mark_hash};
use super::miner::{Miner, MinerOptions};
use crate::state::{Put, Reader, malformed};
use crate::{Error, Result};

/// Version of the bytes, and of the rules that make skeletons: a state of other rules would never match a line.
const VERSION: u8 = 1;
/// A value in place of every byte is the longest that a line becomes.
const TEXT_BYTES_MAX: usize = LINE_BYTES_MAX * 4;

impl Miner {
    /// The state as bytes.
    pub fn save(&self) -> Vec<u8> {
        let mut order: Vec<_> = self.clusters.iter().collect();
        order.sort_unstable_by_key(|cluster| cluster.id);
        let mut out = Vec::with_capacity(self.bytes() / 2 + 64);
        out.put_u8(VERSION);
        out.put_u32(u32::try_from(self.options().clusters_max).unwrap_or(u32::MAX));
        out.put_u64(self.options().bytes_max as u64);
        out.put_u64(self.refused());
        out.put_u32(order.len() as u32);
        for cluster in order {
            out.put_u64(cluster.count);
            out.put_u16(cluster.tokens.len() as u16);
            let mut begin = 0;
            for token in &cluster.tokens {
                out.put_u8(token.kind as u8);
                out.put_u16((token.end - begin) as u16);
                begin = token.end;
            }
            out.extend_from_slice(&cluster.text);
        }
        out
    }

    /// The miner that [`Miner::save`] has written, which may keep at most what `limits` allow.
    ///
    /// # Errors
    /// `Invalid` when the bytes are malformed, of another version, or of a miner with higher limits: templates are then
    /// learnt anew, with the same ids.
    pub fn load(bytes: &[u8], limits: MinerOptions) -> Result<Self> {
        let mut bytes = Reader::new(bytes);
        let version = bytes.u8()?;
        if version != VERSION {
            return Err(Error::Invalid(format!(
                "saved templates have version {version}, this build reads {VERSION}: learn them anew"
            )));
        }
        let options = MinerOptions { clusters_max: bytes.u32()? as usize, bytes_max: bytes.u64()? as usize };
        if options.clusters_max > limits.clusters_max || options.bytes_max > limits.bytes_max {
            return Err(Error::Invalid(format!(
                "saved templates may grow to {} skeletons and {} bytes, the limits here are {} and {}: learn them anew",
                options.clusters_max, options.bytes_max, limits.clusters_max, limits.bytes_max
            )));
        }
        let (mut miner, refused, clusters) = (Self::new(options), bytes.u64()?, bytes.u32()?);
        let (mut text, mut tokens) = (Vec::new(), Vec::new());
        for _ in 0..clusters {
            let count = bytes.u64()?;
            read_skeleton(&mut bytes, &mut text, &mut tokens)?;
            let before = miner.clusters();
            if miner.restore(&text, &tokens, count).is_none() {
                return Err(malformed("it holds more than its own limits allow"));
            }
            if miner.clusters() == before {
                return Err(malformed("two clusters have one skeleton"));
            }
        }
        bytes.end()?;
        miner.settle_all();
        miner.set_refused(refused);
        Ok(miner)
    }
}

fn read_skeleton(bytes: &mut Reader<'_>, text: &mut Vec<u8>, tokens: &mut Vec<Token>) -> Result<()> {
    let count = usize::from(bytes.u16()?);
    if count > TOKENS_MAX {
        return Err(malformed("a template has more tokens than a line can have"));
    }
    text.clear();
    tokens.clear();
    let mut end = 0u32;
    for _ in 0..count {
        let kind = match bytes.u8()? {
            0 => Kind::Word,
            1 => Kind::Mark,
            2 => Kind::Slot,
            3 => Kind::Hole,
            _ => return Err(malformed("a token is of no known kind")),
        };
        end += u32::from(bytes.u16()?);
        tokens.push(Token { end, kind, hash: SLOT_HASH });
    }
    if end as usize > TEXT_BYTES_MAX {
        return Err(malformed("a template is longer than a line can be"));
    }
    text.extend_from_slice(bytes.bytes(end as usize)?);
    let mut begin = 0;
    for token in tokens.iter_mut() {
        let part = &text[begin..token.end as usize];
        if std::str::from_utf8(part).is_err() {
            return Err(malformed("a template is not UTF-8"));
        }
        match token.kind {
            Kind::Word => token.hash = hash::bytes(part),
            Kind::Mark => token.hash = mark_hash(part),
            Kind::Slot | Kind::Hole => {}
        }
        begin = token.end as usize;
    }
    Ok(())
}
