//! The past that models are fitted on: the last 16,384 rows, of which at most 1,024 are kept.
//!
//! While the past is short every row is kept. When there is no more room, every second goes and from then on only every
//! second comes in; at one row in 16 the oldest gives way instead.
use std::collections::VecDeque;

use super::rows::{load_rows, save_rows};
use crate::Result;
use crate::state::{Put, Reader, malformed};

const ROWS_MAX: usize = 1024;
const STRIDE_MAX: u32 = 16;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Past {
    rows: VecDeque<Vec<f64>>,
    stride: u32,
    /// Rows since the last that was kept.
    skipped: u32,
}

impl Default for Past {
    fn default() -> Self {
        Self { rows: VecDeque::new(), stride: 1, skipped: 0 }
    }
}

impl Past {
    pub(super) fn push(&mut self, row: &[f64]) {
        self.skipped += 1;
        if self.skipped < self.stride {
            return;
        }
        self.skipped = 0;
        if self.rows.len() == ROWS_MAX {
            if self.stride < STRIDE_MAX {
                let mut odd = false;
                self.rows.retain(|_| {
                    odd = !odd;
                    !odd
                });
                self.stride *= 2;
            } else {
                self.rows.pop_front();
            }
        }
        self.rows.push_back(row.to_vec());
    }

    /// What is kept, oldest first.
    pub(super) fn rows(&mut self) -> &[Vec<f64>] {
        self.rows.make_contiguous()
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        out.put_u32(self.stride);
        out.put_u32(self.skipped);
        save_rows(self.rows.iter(), out);
    }

    pub(super) fn load(from: &mut Reader<'_>, columns: usize) -> Result<Self> {
        let (stride, skipped) = (from.u32()?, from.u32()?);
        if !stride.is_power_of_two() || stride > STRIDE_MAX || skipped >= stride {
            return Err(malformed("the past skips more rows than it can"));
        }
        Ok(Self { stride, skipped, rows: load_rows(from, columns, ROWS_MAX)?.into() })
    }
}
