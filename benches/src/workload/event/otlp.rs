//! Requests of OTLP, written by hand: rows of one source stand together.

/// A value of an attribute.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// Text.
    Text(&'a str),
    /// A whole number.
    Integer(i64),
}

/// Appends a varint.
fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Appends field `number`, below 16, with a number.
pub fn put_number(out: &mut Vec<u8>, number: u8, value: u64) {
    out.push(number << 3);
    varint(out, value);
}

/// Appends field `number`, below 16, with eight bytes.
pub fn put_fixed(out: &mut Vec<u8>, number: u8, value: u64) {
    out.push(number << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends field `number`, below 16, with bytes.
pub fn put_bytes(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends field `number`, below 16, with an attribute.
pub fn put_attribute(out: &mut Vec<u8>, number: u8, key: &str, value: Value<'_>) {
    let (mut pair, mut any) = (Vec::new(), Vec::new());
    match value {
        Value::Text(text) => put_bytes(&mut any, 1, text.as_bytes()),
        Value::Integer(integer) => put_number(&mut any, 3, integer as u64),
    }
    put_bytes(&mut pair, 1, key.as_bytes());
    put_bytes(&mut pair, 2, &any);
    put_bytes(out, number, &pair);
}

/// Rows on their way into a request.
pub struct Requests {
    /// Encoded resources, and the rows of each with their tags.
    groups: Vec<(Vec<u8>, Vec<u8>)>,
    rows: usize,
}

impl Requests {
    /// For rows of `services`, each of one host.
    pub fn new(services: &[String]) -> Self {
        let group = |(number, service): (usize, &String)| {
            let mut resource = Vec::new();
            put_attribute(&mut resource, 1, "service.name", Value::Text(service));
            put_attribute(&mut resource, 1, "host.name", Value::Text(&format!("node-{:02}", number % 12)));
            (resource, Vec::new())
        };
        Self { groups: services.iter().enumerate().map(group).collect(), rows: 0 }
    }

    /// Adds a row of service number `service`.
    pub fn push(&mut self, service: usize, row: &[u8]) {
        put_bytes(&mut self.groups[service].1, 2, row);
        self.rows += 1;
    }

    /// Rows since the last request.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The request, and begins the next.
    pub fn finish(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        for (resource, rows) in self.groups.iter_mut().filter(|group| !group.1.is_empty()) {
            let mut group = Vec::with_capacity(rows.len() + resource.len() + 32);
            put_bytes(&mut group, 1, resource);
            put_bytes(&mut group, 2, rows);
            put_bytes(&mut body, 1, &group);
            rows.clear();
        }
        self.rows = 0;
        body
    }
}
