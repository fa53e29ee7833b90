//! The lines of one skeleton, and what their slots have in common.
use super::line::{Kind, Token, VALUE, is_wide, token_text};
use super::mask;

/// Lines with one skeleton.
#[derive(Clone, Debug)]
pub(super) struct Cluster {
    pub(super) id: u64,
    /// Lines that had this skeleton, or were folded into it by its holes.
    pub(super) count: u64,
    pub(super) text: Box<[u8]>,
    pub(super) tokens: Box<[Token]>,
    /// What a line can still change: slots that are not open, words with numbers, marks with more blanks than another line
    /// may have there.
    pub(super) unsettled: u32,
    /// The cluster with a hole that this one belongs to.
    pub(super) target: Option<u32>,
}

impl Cluster {
    pub(super) fn new(id: u64, text: &[u8], tokens: &[Token], count: u64) -> Self {
        let mut cluster = Self { id, count, text: text.into(), tokens: tokens.into(), unsettled: 0, target: None };
        cluster.count_unsettled();
        cluster
    }

    /// Opens the slots that have another text in a line of this skeleton (or of one with words where this has holes).
    pub(super) fn observe(&mut self, text: &[u8], tokens: &[Token]) {
        if *self.text == *text {
            return;
        }
        let mut changed = false;
        for place in 0..self.tokens.len() {
            let kind = self.tokens[place].kind;
            if kind == Kind::Hole {
                continue;
            }
            let (mine, theirs) = (token_text(&self.text, &self.tokens, place), token_text(text, tokens, place));
            if mine == theirs || mine == VALUE {
                continue;
            }
            match kind {
                Kind::Slot | Kind::Word if !mask::is_form_of(mine, theirs) => {
                    let common = mask::common(mine, theirs);
                    self.rewrite(place, &common);
                    changed = true;
                }
                Kind::Mark if theirs.len() < mine.len() => {
                    self.rewrite(place, theirs);
                    changed = true;
                }
                _ => {}
            }
        }
        if changed {
            self.count_unsettled();
        }
    }

    fn rewrite(&mut self, place: usize, by: &[u8]) {
        let mut text = std::mem::take(&mut self.text).into_vec();
        replace(&mut text, &mut self.tokens, place, by);
        self.text = text.into();
    }

    /// Makes holes of its slots where `tokens` have some. Returns whether one is new.
    pub(super) fn take_holes(&mut self, tokens: &[Token]) -> bool {
        let mut new = false;
        for (mine, theirs) in self.tokens.iter_mut().zip(tokens) {
            new |= theirs.kind == Kind::Hole && mine.kind != Kind::Hole;
            if theirs.kind == Kind::Hole {
                mine.kind = Kind::Hole;
            }
        }
        if new {
            self.count_unsettled();
        }
        new
    }

    /// Makes a slot a hole. Returns whether it was none.
    pub(super) fn open_hole(&mut self, place: usize) -> bool {
        if self.tokens[place].kind == Kind::Hole {
            return false;
        }
        self.tokens[place].kind = Kind::Hole;
        self.count_unsettled();
        true
    }

    /// Holes are always open.
    fn count_unsettled(&mut self) {
        self.unsettled = 0;
        for place in 0..self.tokens.len() {
            let text = token_text(&self.text, &self.tokens, place);
            match self.tokens[place].kind {
                Kind::Hole if text != VALUE => self.rewrite(place, VALUE),
                Kind::Slot if text != VALUE => self.unsettled += 1,
                Kind::Word if mask::has_digit(text) => self.unsettled += 1,
                Kind::Mark if is_wide(text) => self.unsettled += 1,
                _ => {}
            }
        }
    }

    pub(super) fn holes(&self) -> usize {
        self.tokens.iter().filter(|token| token.kind == Kind::Hole).count()
    }

    pub(super) fn shown(&self) -> String {
        String::from_utf8_lossy(&self.text).into_owned()
    }
}

/// Gives token `place` another text.
pub(super) fn replace(text: &mut Vec<u8>, tokens: &mut [Token], place: usize, by: &[u8]) {
    let end = tokens[place].end as usize;
    let begin = place.checked_sub(1).map_or(0, |before| tokens[before].end as usize);
    text.splice(begin..end, by.iter().copied());
    for token in &mut tokens[place..] {
        token.end = (token.end as usize + by.len() + begin - end) as u32;
    }
}
