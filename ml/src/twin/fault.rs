//! What breaks, and the truth about it.
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::topology::{ServiceId, Topology};

/// Ways in which a service can be in trouble. The meaning of [`Fault::magnitude`] depends on the kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// Something else on the machine burns the CPU. Magnitude: the part of the cores it takes, 0 to 1.
    CpuHog,
    /// Every request waits (a lock, a disk, a remote system) before its own work, for a lognormal time.
    /// Magnitude: its median in seconds.
    Latency,
    /// Requests fail. Magnitude: their part, 0 to 1.
    Errors,
    /// Memory is never given back. Magnitude: part of the idle working set lost per minute.
    MemoryLeak,
    /// Cheap, repetitive requests from outside, past the other services. Magnitude: multiple of the usual rate.
    TrafficSpike,
}

impl FaultKind {
    /// All kinds.
    pub const ALL: [Self; 5] = [Self::CpuHog, Self::Latency, Self::Errors, Self::MemoryLeak, Self::TrafficSpike];

    /// What a person would call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::CpuHog => "CPU hog",
            Self::Latency => "slow dependency",
            Self::Errors => "error burst",
            Self::MemoryLeak => "memory leak",
            Self::TrafficSpike => "traffic spike",
        }
    }
}

/// A fault of one service (all its instances) for some time. Times are nanoseconds since the start of the simulation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fault {
    /// What.
    pub kind: FaultKind,
    /// Where.
    pub service: ServiceId,
    /// From when.
    pub start_ns: u64,
    /// For how long.
    pub duration_ns: u64,
    /// How bad; see [`FaultKind`].
    pub magnitude: f64,
}

impl Fault {
    /// A fault that hurts: kind, service and magnitude drawn from `seed`.
    pub fn draw(topology: &Topology, seed: u64, start_ns: u64, duration_ns: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed ^ 0x000f_a017);
        let kind = FaultKind::ALL[rng.random_range(0..FaultKind::ALL.len())];
        let service = ServiceId(rng.random_range(0..topology.services().len()) as u16);
        Self {
            kind,
            service,
            start_ns,
            duration_ns,
            magnitude: Self::usual_magnitude(kind, topology, service, rng.random()),
        }
    }

    /// A magnitude for `service` between the least (`level` 0) and the most (`level` 1) that is usual for `kind`.
    pub fn usual_magnitude(kind: FaultKind, topology: &Topology, service: ServiceId, level: f64) -> f64 {
        let between = |low: f64, high: f64| low + (high - low) * level.clamp(0.0, 1.0);
        match kind {
            FaultKind::CpuHog => between(0.6, 0.75),
            // Large against the service's own work, small against the time-outs of its callers.
            FaultKind::Latency => (topology.service(service).work_median_s * between(7.0, 10.0)).clamp(0.08, 0.3),
            FaultKind::Errors => between(0.3, 0.45),
            FaultKind::MemoryLeak => between(0.2, 0.26),
            FaultKind::TrafficSpike => between(4.0, 6.0),
        }
    }

    /// First nanosecond after the fault.
    pub fn end_ns(&self) -> u64 {
        self.start_ns.saturating_add(self.duration_ns)
    }

    /// Whether the magnitude makes sense for the kind.
    pub(crate) fn is_valid(&self, topology: &Topology) -> bool {
        let most = match self.kind {
            FaultKind::CpuHog | FaultKind::Errors => 1.0,
            FaultKind::Latency => 60.0,
            FaultKind::MemoryLeak => 10.0,
            FaultKind::TrafficSpike => 1000.0,
        };
        self.service.index() < topology.services().len() && (0.0..=most).contains(&self.magnitude)
    }

    /// The truth about this fault.
    pub fn truth(&self, topology: &Topology) -> Truth {
        let metric = match self.kind {
            FaultKind::CpuHog => "cpu_usage_ratio",
            FaultKind::Latency => "service_self_latency_p99_seconds",
            FaultKind::Errors => "request_errors_ratio",
            FaultKind::MemoryLeak => "memory_working_set_bytes",
            FaultKind::TrafficSpike => "http_requests_total",
        };
        let root = &topology.service(self.service).name;
        Truth {
            fault: *self,
            root: root.clone(),
            direct: Direct { metric, service: root.clone() },
            callers: topology.callers(self.service).iter().map(|id| topology.service(*id).name.clone()).collect(),
        }
    }
}

/// The series that show a fault most directly: those of `metric` with `service` as label, one per instance.
/// Where `metric` is a counter it is its rate that shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Direct {
    /// Metric name.
    pub metric: &'static str,
    /// Label `service`.
    pub service: String,
}

/// What a perfect detective would say.
#[derive(Clone, Debug, PartialEq)]
pub struct Truth {
    /// The fault.
    pub fault: Fault,
    /// The service at fault.
    pub root: String,
    /// Where it shows.
    pub direct: Direct,
    /// Services that may suffer because they call the root, directly or through others.
    pub callers: Vec<String>,
}
