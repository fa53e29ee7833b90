//! NumPy's file format, as far as needed: two dimensions of little-endian `float64`, rows one after the other.
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

const MAGIC: &[u8] = b"\x93NUMPY";

/// Reads a file: its rows.
///
/// # Errors
/// When it cannot be read, or holds something else.
pub(super) fn read(path: &Path) -> Result<Vec<Vec<f64>>> {
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    parse(&bytes).with_context(|| format!("{} is no file of float64 in two dimensions", path.display()))
}

fn parse(bytes: &[u8]) -> Result<Vec<Vec<f64>>> {
    let rest = bytes.strip_prefix(MAGIC).context("not a file of NumPy")?;
    let &[major, _, low, high, ..] = rest else { anyhow::bail!("cut short") };
    // from version 2 on the length of the header has four bytes
    let (begin, len) = match (major, rest) {
        (1, _) => (4, usize::from(u16::from_le_bytes([low, high]))),
        (_, &[_, _, a, b, c, d, ..]) => (6, u32::from_le_bytes([a, b, c, d]) as usize),
        _ => anyhow::bail!("cut short"),
    };
    let header = std::str::from_utf8(rest.get(begin..begin + len).context("cut short")?)?;
    ensure!(header.contains("'<f8'") && header.contains("'fortran_order': False"), "{header}");
    let shape = header.split_once("'shape': (").and_then(|(_, rest)| rest.split_once(')')).context("no shape")?.0;
    let shape: Vec<usize> =
        shape.split(',').map(str::trim).filter(|n| !n.is_empty()).map(str::parse).collect::<Result<_, _>>()?;
    let &[rows, columns] = shape.as_slice() else { anyhow::bail!("{} dimensions", shape.len()) };
    let cells = rest[begin + len..].as_chunks::<8>().0;
    ensure!(columns > 0 && cells.len() == rows * columns, "{} cells for {rows} rows of {columns}", cells.len());
    Ok(cells.chunks(columns).map(|row| row.iter().map(|&cell| f64::from_le_bytes(cell)).collect()).collect())
}

#[cfg(test)]
mod tests {
    use super::parse;

    fn file(header: &str, cells: &[f64]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(cells.iter().flat_map(|cell| cell.to_le_bytes()));
        bytes
    }

    #[test]
    fn rows_come_one_after_the_other() {
        let header = "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }\n";
        let rows = parse(&file(header, &[1.0, 2.0, 3.0, -1.5, 258.0, 0.0])).unwrap();
        assert_eq!(rows, [[1.0, 2.0, 3.0], [-1.5, 258.0, 0.0]]);
    }

    #[test]
    fn other_types_shapes_and_lengths_are_refused() {
        let of = |descr: &str, fortran: &str, shape: &str| {
            format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n")
        };
        for (header, cells) in [
            (of("<f4", "False", "(1, 2)"), 2),
            (of("<f8", "True", "(1, 2)"), 2),
            (of("<f8", "False", "(2,)"), 2),
            (of("<f8", "False", "(1, 2)"), 1),
            (of("<f8", "False", "(1, 0)"), 0),
        ] {
            assert!(parse(&file(&header, &vec![0.0; cells])).is_err(), "{header}");
        }
        assert!(parse(b"\x93NUMPY\x01").is_err() && parse(b"1,2").is_err());
    }
}
