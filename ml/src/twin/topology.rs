//! Services, what they cost, and whom they call.
use crate::error::{Error, Result};

/// Index of a service in its [`Topology`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceId(pub u16);

impl ServiceId {
    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A call that a service makes while it answers a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Who is called.
    pub target: ServiceId,
    /// How often: the probability that a request makes this call.
    pub probability: f64,
    /// The caller gives up waiting after this time; the callee works on.
    pub timeout_s: f64,
    /// Attempts after the first that failed.
    pub retries: u8,
    /// Whether the caller's answer fails when the call does.
    pub critical: bool,
}

/// A service: a number of equal instances behind a round-robin balancer.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Label value `service`.
    pub name: String,
    /// Replicas.
    pub instances: usize,
    /// Requests that one instance works on at once.
    pub workers: usize,
    /// Requests that may wait at one instance; more are rejected with 503.
    pub queue_max: usize,
    /// CPU cores of an instance.
    pub cores: f64,
    /// Median of the service's own work per request (lognormal), without the calls it makes.
    pub work_median_s: f64,
    /// Sigma of the logarithm of the work.
    pub work_sigma: f64,
    /// Part of the work that is CPU; the rest waits for disks and locks.
    pub cpu_share: f64,
    /// Working set of an idle instance.
    pub memory_bytes: f64,
    /// Probability that a request fails by itself.
    pub error_ratio: f64,
    /// Calls: the calls of a stage run in parallel, stages run in order.
    pub stages: Vec<Vec<Call>>,
}

impl Service {
    /// A service of two instances with usual settings and no calls.
    pub fn new(name: &str, work_median_s: f64) -> Self {
        Self {
            name: name.to_owned(),
            instances: 2,
            workers: 32,
            queue_max: 256,
            cores: 1.0,
            work_median_s,
            work_sigma: 0.3,
            cpu_share: 0.8,
            memory_bytes: 256.0 * 1024.0 * 1024.0,
            error_ratio: 0.01,
            stages: Vec::new(),
        }
    }
}

/// Most services of a topology.
const SERVICES_MAX: usize = 1024;

/// An acyclic call graph. Built once, then only read.
#[derive(Clone, Debug, PartialEq)]
pub struct Topology {
    services: Vec<Service>,
    entry: ServiceId,
    /// Mean number of times that one customer's request reaches each service.
    visits: Vec<f64>,
}

impl Topology {
    /// A topology whose customers arrive at `entry`.
    ///
    /// # Errors
    /// `Invalid` for a call to nowhere, a cycle, or a quantity outside its range.
    pub fn new(services: Vec<Service>, entry: ServiceId) -> Result<Self> {
        let count = services.len();
        if count > SERVICES_MAX {
            return Err(Error::Invalid(format!("{count} services; at most {SERVICES_MAX} are simulated")));
        }
        if entry.index() >= count {
            return Err(Error::Invalid("the entry is not one of the services".into()));
        }
        for service in &services {
            check_service(service, count)?;
        }
        let order = order_callers_first(&services)?;
        let mut visits = vec![0.0; count];
        visits[entry.index()] = 1.0;
        for &from in &order {
            for call in services[from].stages.iter().flatten() {
                visits[call.target.index()] += visits[from] * call.probability;
            }
        }
        Ok(Self { services, entry, visits })
    }

    /// The shop: twelve services, two instances each.
    ///
    /// ```text
    /// frontend ─┬─ user ────────────┬────────────> cache, database
    ///           ├─ catalogue ───────┼─> inventory ─> cache, database
    ///           ├─ search ──────────┼─> catalogue, cache, database
    ///           ├─ recommendation ──┼─> catalogue, cache
    ///           ├─ cart ────────────┼─> catalogue, cache, database
    ///           └─ checkout ─> cart, inventory, user, payment, shipping ─> inventory, database
    /// ```
    pub fn shop() -> Self {
        let call = |target: u16, probability: f64| Call {
            target: ServiceId(target),
            probability,
            timeout_s: 3.0,
            retries: 1,
            critical: true,
        };
        let optional = |target: u16, probability: f64| Call { critical: false, ..call(target, probability) };
        let service = |name: &str, work_ms: f64, memory_mib: f64, stages: Vec<Vec<Call>>| Service {
            memory_bytes: memory_mib * 1024.0 * 1024.0,
            stages,
            ..Service::new(name, work_ms / 1000.0)
        };
        let (cart, checkout, payment, catalogue, search, recommendation) = (1, 2, 3, 4, 5, 6);
        let (shipping, inventory, user, cache, database) = (7, 8, 9, 10, 11);
        let frontend = Service {
            workers: 64,
            ..service(
                "frontend",
                18.0,
                384.0,
                vec![
                    vec![call(user, 0.6)],
                    vec![call(catalogue, 0.7), call(search, 0.25), optional(recommendation, 0.45), call(cart, 0.35)],
                    vec![call(checkout, 0.15)],
                ],
            )
        };
        let services = vec![
            frontend,
            service("cart", 14.0, 192.0, vec![vec![call(cache, 1.0)], vec![call(catalogue, 0.3), call(database, 0.2)]]),
            service(
                "checkout",
                30.0,
                256.0,
                vec![
                    vec![call(cart, 1.0), call(user, 1.0)],
                    vec![call(inventory, 1.0)],
                    vec![call(payment, 1.0)],
                    vec![call(shipping, 1.0)],
                ],
            ),
            service("payment", 60.0, 224.0, vec![vec![call(database, 1.0)]]),
            service(
                "catalogue",
                12.0,
                320.0,
                vec![vec![call(cache, 1.0)], vec![call(database, 0.4), call(inventory, 0.3)]],
            ),
            service(
                "search",
                40.0,
                768.0,
                vec![vec![call(cache, 1.0)], vec![call(catalogue, 0.3), call(database, 0.5)]],
            ),
            service("recommendation", 35.0, 512.0, vec![vec![call(cache, 0.6), call(catalogue, 0.5)]]),
            service("shipping", 45.0, 160.0, vec![vec![call(inventory, 0.4)], vec![call(database, 0.5)]]),
            service("inventory", 10.0, 288.0, vec![vec![call(cache, 0.5)], vec![call(database, 0.6)]]),
            service("user", 9.0, 208.0, vec![vec![call(cache, 0.8)], vec![call(database, 0.3)]]),
            Service { workers: 16, cpu_share: 0.95, ..service("cache", 2.5, 1024.0, Vec::new()) },
            Service { workers: 24, cpu_share: 0.6, cores: 2.0, ..service("database", 15.0, 2048.0, Vec::new()) },
        ];
        Self::new(services, ServiceId(0)).expect("a constant table, built by every test")
    }

    /// All services; a [`ServiceId`] is an index here.
    pub fn services(&self) -> &[Service] {
        &self.services
    }

    /// One service.
    pub fn service(&self, id: ServiceId) -> &Service {
        &self.services[id.index()]
    }

    /// Where customers arrive.
    pub fn entry(&self) -> ServiceId {
        self.entry
    }

    /// All ids.
    pub fn ids(&self) -> impl Iterator<Item = ServiceId> + use<> {
        (0..self.services.len()).map(|index| ServiceId(index as u16))
    }

    /// The service of that name.
    pub fn find(&self, name: &str) -> Option<ServiceId> {
        self.ids().find(|id| self.service(*id).name == name)
    }

    /// Mean number of requests at `id` per customer's request, retries left out.
    pub fn visits(&self, id: ServiceId) -> f64 {
        self.visits[id.index()]
    }

    /// Everyone who calls `id`, directly or through others.
    pub fn callers(&self, id: ServiceId) -> Vec<ServiceId> {
        let mut reached = vec![false; self.services.len()];
        let mut open = vec![id];
        while let Some(target) = open.pop() {
            for caller in self.ids() {
                let calls = self.service(caller).stages.iter().flatten().any(|call| call.target == target);
                if calls && !reached[caller.index()] {
                    reached[caller.index()] = true;
                    open.push(caller);
                }
            }
        }
        self.ids().filter(|caller| reached[caller.index()]).collect()
    }
}

fn check_service(service: &Service, count: usize) -> Result<()> {
    let name = &service.name;
    let bad = |what: &str| Err(Error::Invalid(format!("service {name}: {what}")));
    if service.instances == 0 || service.instances > 1000 || service.workers == 0 {
        return bad("needs 1 to 1000 instances and at least one worker");
    }
    let positive = [service.cores, service.work_median_s, service.memory_bytes];
    if positive.iter().any(|value| !value.is_finite() || *value <= 0.0) {
        return bad("cores, work and memory must be positive");
    }
    if !(0.0..=3.0).contains(&service.work_sigma) {
        return bad("the sigma of the work must lie in 0 to 3");
    }
    let ratio = 0.0..=1.0;
    if !ratio.contains(&service.cpu_share) || !ratio.contains(&service.error_ratio) {
        return bad("cpu share and error ratio must lie in 0 to 1");
    }
    for call in service.stages.iter().flatten() {
        if call.target.index() >= count {
            return bad("calls a service that does not exist");
        }
        if !ratio.contains(&call.probability) || !call.timeout_s.is_finite() || call.timeout_s <= 0.0 {
            return bad("a call needs a probability in 0 to 1 and a positive time-out");
        }
    }
    Ok(())
}

/// Services ordered so that each stands after everyone who calls it.
fn order_callers_first(services: &[Service]) -> Result<Vec<usize>> {
    let mut incoming = vec![0usize; services.len()];
    for call in services.iter().flat_map(|service| service.stages.iter().flatten()) {
        incoming[call.target.index()] += 1;
    }
    let mut order: Vec<usize> = (0..services.len()).filter(|&index| incoming[index] == 0).collect();
    let mut next = 0;
    while next < order.len() {
        for call in services[order[next]].stages.iter().flatten() {
            let target = call.target.index();
            incoming[target] -= 1;
            if incoming[target] == 0 {
                order.push(target);
            }
        }
        next += 1;
    }
    if order.len() < services.len() {
        return Err(Error::Invalid("the calls form a cycle; a request would never end".into()));
    }
    Ok(order)
}
