//! Samples in the encoding of Prometheus's storage: differences of differences of times, and values as the bits in which
//! they differ from the one before.
//!
//! ```text
//!  u16 number of samples, then bits from the high end of each byte:
//!  time     1st: zigzag varint   2nd: varint of the difference   others: difference of differences d
//!             0                          d = 0
//!             10   14 bits               -8191 <= d <= 8192
//!             110  17 bits, 1110  20 bits  likewise
//!             1111 64 bits
//!  value    1st: 64 bits         others: x = bits xor bits of the one before
//!             0                          x = 0
//!             10  bits of x              inside the window of the last x that had one
//!             11  5 bits leading zeros, 6 bits length (0: 64), bits of x
//! ```

/// Leading zeros that five bits can say.
const LEADING_MAX: u32 = 31;

/// Appends the chunk of `ts_ms` and `values`, which are as many, 65,535 at most.
pub(super) fn encode(ts_ms: &[i64], values: &[f64], out: &mut Vec<u8>) {
    out.extend_from_slice(&(ts_ms.len() as u16).to_be_bytes());
    let mut bits = BitWriter { out, free: 0 };
    let (mut time, mut step, mut value) = (0i64, 0i64, 0u64);
    let mut window = None;
    for (i, (&ts, &sample)) in ts_ms.iter().zip(values).enumerate() {
        let difference = ts.wrapping_sub(time);
        match i {
            0 => bits.varint((ts.wrapping_shl(1) ^ (ts >> 63)) as u64),
            1 => bits.varint(difference as u64),
            _ => put_change(difference.wrapping_sub(step), &mut bits),
        }
        (time, step) = (ts, if i == 0 { 0 } else { difference });
        let sample = sample.to_bits();
        if i == 0 {
            bits.put(sample, 64);
        } else {
            put_xor(sample ^ value, &mut window, &mut bits);
        }
        value = sample;
    }
}

/// How much the distance of times has changed.
fn put_change(change: i64, bits: &mut BitWriter<'_>) {
    let fits = |width: u32| change >= -((1i64 << (width - 1)) - 1) && change <= 1i64 << (width - 1);
    match change {
        0 => bits.put(0, 1),
        _ if fits(14) => {
            bits.put(0b10, 2);
            bits.put(change as u64, 14);
        }
        _ if fits(17) => {
            bits.put(0b110, 3);
            bits.put(change as u64, 17);
        }
        _ if fits(20) => {
            bits.put(0b1110, 4);
            bits.put(change as u64, 20);
        }
        _ => {
            bits.put(0b1111, 4);
            bits.put(change as u64, 64);
        }
    }
}

/// In which bits a value differs. `window`: leading and trailing zeros of the last difference that said its own.
fn put_xor(xor: u64, window: &mut Option<(u32, u32)>, bits: &mut BitWriter<'_>) {
    if xor == 0 {
        return bits.put(0, 1);
    }
    bits.put(1, 1);
    let (leading, trailing) = (xor.leading_zeros().min(LEADING_MAX), xor.trailing_zeros());
    if let Some((window_leading, window_trailing)) = *window
        && leading >= window_leading
        && trailing >= window_trailing
    {
        bits.put(0, 1);
        return bits.put(xor >> window_trailing, 64 - window_leading - window_trailing);
    }
    *window = Some((leading, trailing));
    let len = 64 - leading - trailing;
    bits.put(1, 1);
    bits.put(u64::from(leading), 5);
    bits.put(u64::from(len), 6);
    bits.put(xor >> trailing, len);
}

/// Bits on the end of bytes.
struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    /// Bits of the last byte that are not taken.
    free: u32,
}

impl BitWriter<'_> {
    /// The `width` low bits of `value`, the highest first.
    fn put(&mut self, value: u64, width: u32) {
        let mut left = width;
        while left > 0 {
            if self.free == 0 {
                self.out.push(0);
                self.free = 8;
            }
            let take = left.min(self.free);
            let piece = (value >> (left - take)) & ((1 << take) - 1);
            self.free -= take;
            left -= take;
            if let Some(last) = self.out.last_mut() {
                *last |= (piece as u8) << self.free;
            }
        }
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.put(value & 0x7f | 0x80, 8);
            value >>= 7;
        }
        self.put(value, 8);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use super::*;

    struct Bits<'a>(&'a [u8], usize);

    impl Bits<'_> {
        fn take(&mut self, width: usize) -> u64 {
            (0..width).fold(0, |value, _| {
                let bit = self.0[self.1 / 8] >> (7 - self.1 % 8) & 1;
                self.1 += 1;
                value << 1 | u64::from(bit)
            })
        }
        fn varint(&mut self) -> u64 {
            let (mut value, mut shift) = (0, 0);
            loop {
                let byte = self.take(8);
                value |= (byte & 0x7f) << shift;
                if byte < 0x80 {
                    return value;
                }
                shift += 7;
            }
        }
    }

    /// (time, bits of the value) of each sample.
    pub(in super::super) fn decode(chunk: &[u8]) -> Vec<(i64, u64)> {
        let mut bits = Bits(chunk, 16);
        let (mut ts, mut step, mut value, mut window) = (0i64, 0i64, 0u64, (0usize, 0usize));
        let mut samples = Vec::new();
        for i in 0..usize::from(u16::from_be_bytes([chunk[0], chunk[1]])) {
            match i {
                0 => {
                    let zigzag = bits.varint();
                    ts = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
                }
                1 => step = bits.varint() as i64,
                _ => {
                    let ones = (0..4).take_while(|_| bits.take(1) == 1).count();
                    let width = [0, 14, 17, 20, 64][ones];
                    let raw = bits.take(width);
                    let is_negative = width > 0 && width < 64 && raw > 1 << (width - 1);
                    step = step.wrapping_add(if is_negative { raw as i64 - (1 << width) } else { raw as i64 });
                }
            }
            ts = if i == 0 { ts } else { ts.wrapping_add(step) };
            if i == 0 {
                value = bits.take(64);
            } else if bits.take(1) == 1 {
                if bits.take(1) == 1 {
                    let leading = bits.take(5) as usize;
                    let len = match bits.take(6) as usize {
                        0 => 64,
                        len => len,
                    };
                    window = (leading, 64 - leading - len);
                }
                value ^= bits.take(64 - window.0 - window.1) << window.1;
            }
            samples.push((ts, value));
        }
        samples
    }

    /// A chunk that Prometheus 3.5 wrote when it scraped itself.
    #[test]
    fn chunks_are_byte_for_byte_those_of_prometheus() {
        let written = "000c80d5a8aac46840fa488000000000b808da77b2f7f0126f500219d6ff946601c200c276fdc2019cb609f2004d02ee\
            a200ef7e07b2007eaa015203ffc2009200afcefd42019f4c";
        let ts_ms: Vec<i64> = [3952, 5032, 5984, 6952, 8032, 8968, 10540, 11000, 11952, 12988, 14060, 14956]
            .iter()
            .map(|ms| 1_795_877_570_000 + ms)
            .collect();
        let values = [
            107_656.0, 122_790.0, 129_362.0, 137_149.0, 141_088.0, 147_469.0, 152_397.0, 157_842.0, 161_592.0,
            166_088.0, 172_859.0, 181_480.0,
        ];
        let mut chunk = Vec::new();
        encode(&ts_ms, &values, &mut chunk);
        let hex: String = chunk.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, written);
    }

    #[test]
    fn every_width_of_times_and_values_comes_back() {
        let mut ts_ms = vec![-7i64];
        for (i, width) in [0u32, 1, 13, 14, 16, 17, 19, 20, 33].into_iter().enumerate() {
            for change in [-(1i64 << width), -(1i64 << width) + 1, 0, 1i64 << width, (1i64 << width) + 1] {
                let last = ts_ms[ts_ms.len() - 1];
                ts_ms.push(last + (1 << 40) + change + i as i64);
            }
        }
        let special = [0.0, -0.0, 1.0, f64::NAN, f64::INFINITY, f64::from_bits(0x7ff0_0000_0000_0002), 1e-300, 0.1];
        let values: Vec<f64> = (0..ts_ms.len())
            .map(|i| if i % 3 == 0 { special[i / 3 % special.len()] } else { 100.0 + (i / 2) as f64 })
            .collect();
        let mut chunk = Vec::new();
        encode(&ts_ms, &values, &mut chunk);
        let expected: Vec<(i64, u64)> = ts_ms.iter().zip(&values).map(|(&ts, value)| (ts, value.to_bits())).collect();
        assert_eq!(decode(&chunk), expected);
        chunk.clear();
        encode(&[i64::MIN, i64::MAX, 0], &[1.0; 3], &mut chunk);
        let one = 1f64.to_bits();
        assert_eq!(decode(&chunk), [(i64::MIN, one), (i64::MAX, one), (0, one)]);
        chunk.clear();
        encode(&[], &[], &mut chunk);
        assert_eq!(chunk, [0, 0]);
    }
}
