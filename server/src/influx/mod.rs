//! InfluxDB line protocol: `POST /write` (v1) and `POST /api/v2/write`.
//!
//! ```text
//!  cpu,host=a load=0.5,cores=8i 1700000000000000000
//!    -> cpu_load{host="a"} 0.5 and cpu_cores{host="a"} 8
//! ```
//! | module | owns |
//! |---|---|
//! | [`line`] | the grammar: bytes of a line in, slices of them out |
//! | `rows` | fields to samples, tags to labels |
//! | `handler` | HTTP: precision, status codes |
//!
//! A line is stored whole or not at all; a bad one is named in the answer and takes no other with it.
pub(crate) mod handler;
mod line;
mod rows;
