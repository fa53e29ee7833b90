//! Wire types of Foretell, generated from `proto/proto/` when the crate is built.
//!
//! Owns the field numbers of other people's protocols and nothing else: no logic, no I/O. The hot paths do not use these
//! types per sample (the server walks the wire bytes itself); they are what it is checked against, and what cold paths and
//! test clients speak.
//!
//! ```
//! use foretell_proto::prometheus::v1::{Label, Sample, TimeSeries, WriteRequest};
//! use prost::Message;
//!
//! let request = WriteRequest {
//!     timeseries: vec![TimeSeries {
//!         labels: vec![Label { name: "__name__".into(), value: "up".into() }],
//!         samples: vec![Sample { value: 1.0, timestamp: 1_700_000_000_000 }],
//!         ..TimeSeries::default()
//!     }],
//!     ..WriteRequest::default()
//! };
//! let bytes = request.encode_to_vec();
//! assert_eq!(WriteRequest::decode(&*bytes).unwrap(), request);
//! ```

/// What Prometheus speaks.
pub mod prometheus {
    /// Remote write 1.0 (`prometheus.WriteRequest`) and remote read.
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/prometheus.rs"));
    }
    /// Remote write 2.0 (`io.prometheus.write.v2.Request`).
    pub mod v2 {
        include!(concat!(env!("OUT_DIR"), "/io.prometheus.write.v2.rs"));
    }

    /// Bits of the NaN by which Prometheus marks a series as gone.
    pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;
}

#[allow(missing_docs, reason = "the .proto file says what they mean")]
/// What is Foretell's own.
pub mod foretell {
    /// Version 1.
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/foretell.v1.rs"));
    }
}

#[allow(missing_docs, reason = "field numbers only; the specification says what they mean")]
/// What OpenTelemetry speaks. The modules lie as the packages of its messages, so that these find each other.
pub mod opentelemetry {
    /// Attributes, scopes, resources.
    pub mod common {
        /// Version 1.
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/opentelemetry.proto.common.v1.rs"));
        }
    }
    /// Metrics and their data points.
    pub mod metrics {
        /// Version 1.
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/opentelemetry.proto.metrics.v1.rs"));
        }
    }
    /// Log records.
    pub mod logs {
        /// Version 1.
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/opentelemetry.proto.logs.v1.rs"));
        }
    }
    /// Spans.
    pub mod trace {
        /// Version 1.
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/opentelemetry.proto.trace.v1.rs"));
        }
    }
    /// Calls.
    pub mod collector {
        /// Of metrics.
        pub mod metrics {
            /// Version 1.
            pub mod v1 {
                include!(concat!(env!("OUT_DIR"), "/opentelemetry.proto.collector.metrics.v1.rs"));
            }
        }
        /// Of logs.
        pub mod logs {
            /// Version 1.
            pub mod v1 {
                include!(concat!(env!("OUT_DIR"), "/opentelemetry.proto.collector.logs.v1.rs"));
            }
        }
        /// Of traces.
        pub mod trace {
            /// Version 1.
            pub mod v1 {
                include!(concat!(env!("OUT_DIR"), "/opentelemetry.proto.collector.trace.v1.rs"));
            }
        }
    }
}
