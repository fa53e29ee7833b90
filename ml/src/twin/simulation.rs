//! The loop: takes the next event, moves requests on, plans what follows, and scrapes.
use std::ops::Range;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rand_distr::{Distribution, LogNormal, StandardNormal};

use super::event::{Event, EventQueue, RequestId};
use super::fault::{Fault, FaultKind, Truth};
use super::metrics::{Code, Meter, Reading, Sample, Series, first_sample, series_table};
use super::queue::{Admission, Pool};
use super::request::{Request, Requests};
use super::topology::{Call, ServiceId, Topology};
use super::workload::{Arrivals, Workload, exponential};
use super::{nanos, seconds};
use crate::error::{Error, Result};

/// What a rejected caller waits for its answer.
const REJECT_NS: u64 = 1_000_000;
/// How much of the usual work and calls an extra request of a traffic spike causes.
const EXTRA_DEPTH: f64 = 0.3;
/// How much of a hog's cores the requests would have used.
const HOG_CONTENTION: f64 = 0.6;

/// Sigma of the logarithm of the wait that a latency fault adds.
const WAIT_SIGMA: f64 = 0.6;

/// Sums over all instances of a service since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Requests that came.
    pub arrived: u64,
    /// Requests that were answered after work.
    pub completed: u64,
    /// Requests turned away because the queue was full.
    pub rejected: u64,
    /// Requests waiting or being worked on now.
    pub in_system: u64,
    /// Time that the completed requests spent in the system, summed.
    pub sojourn_s: f64,
    /// Integral over time of the number in the system.
    pub request_seconds: f64,
}

/// What the active faults do to a service.
#[derive(Clone, Copy, Default)]
struct Effects {
    hog: f64,
    wait_s: f64,
    errors: f64,
}

/// Everything about a service that the loop needs.
struct Station {
    work: LogNormal<f64>,
    cpu_share: f64,
    error_ratio: f64,
    /// Its instances among all instances ("nodes").
    nodes: Range<usize>,
    next_node: usize,
    /// Per stage, its calls among all calls.
    stages: Vec<Range<usize>>,
    effects: Effects,
    totals: Totals,
}

/// A running simulation of one topology.
pub struct Simulation {
    topology: Topology,
    workload: Workload,
    scrape_ns: u64,
    now: u64,
    stations: Vec<Station>,
    calls: Vec<Call>,
    pools: Vec<Pool>,
    meters: Vec<Meter>,
    requests: Requests,
    events: EventQueue,
    faults: Vec<Fault>,
    arrivals: Arrivals,
    arrival_rng: SmallRng,
    extra_rng: SmallRng,
    work_rng: SmallRng,
    noise_rng: SmallRng,
    series: Vec<Series>,
    samples: Vec<Sample>,
}

impl Simulation {
    /// An empty system at time 0 that is scraped every `scrape_ns`.
    ///
    /// # Errors
    /// `Invalid` for a workload outside its ranges or a scrape interval of 0.
    pub fn new(topology: Topology, workload: Workload, scrape_ns: u64, seed: u64) -> Result<Self> {
        if !workload.is_valid() {
            return Err(Error::Invalid(
                "workload: rate must lie in 0 to 100000, swing in 0 to 1, wander in 0 to 1".into(),
            ));
        }
        if scrape_ns == 0 {
            return Err(Error::Invalid("the scrape interval must be positive".into()));
        }
        let mut calls = Vec::new();
        let mut stations = Vec::new();
        let mut pools = Vec::new();
        let mut meters = Vec::new();
        for id in topology.ids() {
            let service = topology.service(id);
            let rate = workload.rate * topology.visits(id) / service.instances as f64;
            let nodes = pools.len()..pools.len() + service.instances;
            pools.extend(nodes.clone().map(|_| Pool::new(service.workers, service.queue_max)));
            meters.extend(nodes.clone().map(|_| Meter::new(service, rate)));
            let stages = service.stages.iter().map(|stage| {
                let first = calls.len();
                calls.extend(stage.iter().cloned());
                first..calls.len()
            });
            let stages = stages.collect();
            let work = LogNormal::new(service.work_median_s.ln(), service.work_sigma);
            stations.push(Station {
                work: work.map_err(|error| Error::Invalid(format!("service {}: {error}", service.name)))?,
                cpu_share: service.cpu_share,
                error_ratio: service.error_ratio,
                next_node: nodes.start,
                nodes,
                stages,
                effects: Effects::default(),
                totals: Totals::default(),
            });
        }
        let series = series_table(&topology);
        let samples = (0..series.len() as u32).map(|series| Sample { series, value: 0.0 }).collect();
        let stream = |number: u64| SmallRng::seed_from_u64(seed.wrapping_mul(8).wrapping_add(number));
        let mut simulation = Self {
            topology,
            workload,
            scrape_ns,
            now: 0,
            stations,
            calls,
            pools,
            meters,
            requests: Requests::default(),
            events: EventQueue::default(),
            faults: Vec::new(),
            arrivals: Arrivals::new(workload),
            arrival_rng: stream(0),
            extra_rng: stream(1),
            work_rng: stream(2),
            noise_rng: stream(3),
            series,
            samples,
        };
        simulation.plan_arrival(0);
        Ok(simulation)
    }

    /// What is simulated.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The table of series; constant.
    pub fn series(&self) -> &[Series] {
        &self.series
    }

    /// Nanoseconds since the start, as of the last scrape.
    pub fn now_ns(&self) -> u64 {
        self.now
    }

    /// Adds a fault that begins now or later.
    ///
    /// # Errors
    /// `Invalid` for a fault in the past, an unknown service or a magnitude without sense for its kind.
    pub fn inject(&mut self, fault: Fault) -> Result<Truth> {
        if fault.start_ns < self.now || !fault.is_valid(&self.topology) {
            return Err(Error::Invalid(
                "a fault needs a known service, a magnitude in its kind's range and a start that is not past".into(),
            ));
        }
        let number = self.faults.len() as u32;
        self.faults.push(fault);
        self.events.plan(fault.start_ns, Event::FaultStart(number));
        self.events.plan(fault.end_ns(), Event::FaultEnd(number));
        Ok(fault.truth(&self.topology))
    }

    /// Simulates one scrape interval; returns the scrape at its end, one sample per series in the order of the table.
    pub fn step(&mut self) -> &[Sample] {
        let before = self.now;
        let until = before + self.scrape_ns;
        while let Some((time, event)) = self.events.next(until) {
            self.now = time;
            self.happen(event);
        }
        self.now = until;
        self.leak(before, until);
        self.scrape();
        &self.samples
    }

    /// Sums of one service.
    pub fn totals(&self, service: ServiceId) -> Totals {
        let station = &self.stations[service.index()];
        let pools = &self.pools[station.nodes.clone()];
        Totals {
            in_system: pools.iter().map(|pool| pool.len() as u64).sum(),
            request_seconds: pools.iter().map(|pool| pool.areas().0 as f64 / 1e9).sum(),
            ..station.totals
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrival => {
                self.plan_arrival(self.now);
                self.receive(Request::new(self.topology.entry(), self.now));
            }
            Event::Extra(number) => self.extra(number),
            Event::Worked(id) => self.worked(id.slot),
            Event::Rejected(id) => self.answer(id.slot),
            Event::Timeout(id) => self.give_up(id),
            Event::FaultStart(number) => {
                self.set_effects(self.faults[number as usize].service);
                self.plan_extra(number);
            }
            Event::FaultEnd(number) => self.end_fault(number),
        }
    }

    fn plan_arrival(&mut self, now: u64) {
        if let Some(time) = self.arrivals.next(now, &mut self.arrival_rng) {
            self.events.plan(time, Event::Arrival);
        }
    }

    /// A request comes to a service: the balancer picks the instance, the pool decides.
    fn receive(&mut self, mut request: Request) {
        let station = &mut self.stations[request.service.index()];
        let node = station.next_node;
        station.next_node = if node + 1 == station.nodes.end { station.nodes.start } else { node + 1 };
        station.totals.arrived += 1;
        request.node = node as u32;
        let timeout_ns = request.parent.map(|_| nanos(self.calls[request.call as usize].timeout_s));
        let id = self.requests.insert(request);
        match self.pools[node].arrive(self.now, id.slot) {
            Admission::Start => self.start(id.slot),
            Admission::Wait => {}
            Admission::Reject => {
                self.stations[request.service.index()].totals.rejected += 1;
                self.requests.get_mut(id.slot).code = Code::Unavailable;
                self.meters[node].answer(Code::Unavailable, seconds(REJECT_NS));
                self.events.plan(self.now + REJECT_NS, Event::Rejected(id));
                return;
            }
        }
        if let Some(timeout_ns) = timeout_ns {
            self.events.plan(self.now + timeout_ns, Event::Timeout(id));
        }
    }

    /// A worker takes up a request.
    fn start(&mut self, slot: u32) {
        let request = self.requests.get_mut(slot);
        let station = &self.stations[request.service.index()];
        let effects = station.effects;
        let depth = if request.extra { EXTRA_DEPTH } else { 1.0 };
        let work_s = station.work.sample(&mut self.work_rng) * depth;
        let failure = station.error_ratio + (1.0 - station.error_ratio) * effects.errors;
        if self.work_rng.random::<f64>() < failure {
            request.code = Code::Failed;
        }
        self.meters[request.node as usize].work(work_s * station.cpu_share);
        let mut busy_s = work_s / (1.0 - HOG_CONTENTION * effects.hog);
        if effects.wait_s > 0.0 {
            let z: f64 = StandardNormal.sample(&mut self.work_rng);
            busy_s += effects.wait_s * (WAIT_SIGMA * z).exp();
        }
        let id = self.requests.id(slot);
        self.events.plan(self.now + nanos(busy_s), Event::Worked(id));
    }

    fn worked(&mut self, slot: u32) {
        let request = self.requests.get_mut(slot);
        self.meters[request.node as usize].worked(seconds(self.now - request.arrived));
        self.advance(slot);
    }

    /// Own work or a stage of calls is done: makes the calls of the next stage, or ends the request.
    fn advance(&mut self, slot: u32) {
        loop {
            let request = self.requests.get_mut(slot);
            let stages = &self.stations[request.service.index()].stages;
            let stage = usize::from(request.stage);
            if request.code != Code::Ok || stage >= stages.len() {
                return self.finish(slot);
            }
            request.stage += 1;
            let depth = if request.extra { EXTRA_DEPTH } else { 1.0 };
            for call in stages[stage].clone() {
                if self.work_rng.random::<f64>() < self.calls[call].probability * depth {
                    self.requests.get_mut(slot).pending += 1;
                    self.call(slot, call as u32, 0);
                }
            }
            if self.requests.get_mut(slot).pending > 0 {
                return;
            }
        }
    }

    fn call(&mut self, caller: u32, call: u32, attempt: u8) {
        let parent = Some(self.requests.id(caller));
        let request = Request::new(self.calls[call as usize].target, self.now);
        self.receive(Request { parent, call, attempt, ..request });
    }

    /// A request has been answered: its worker takes the next, its caller goes on.
    fn finish(&mut self, slot: u32) {
        let request = *self.requests.get_mut(slot);
        let duration_s = seconds(self.now - request.arrived);
        let node = request.node as usize;
        self.meters[node].answer(request.code, duration_s);
        let totals = &mut self.stations[request.service.index()].totals;
        totals.completed += 1;
        totals.sojourn_s += duration_s;
        if let Some(next) = self.pools[node].finish(self.now) {
            self.start(next);
        }
        self.answer(slot);
    }

    fn answer(&mut self, slot: u32) {
        let request = self.requests.remove(slot);
        if let Some(parent) = request.parent {
            self.settle(parent.slot, request.call, request.attempt, request.code);
        }
    }

    /// The caller of `id` stops waiting; `id` itself works on for nobody.
    fn give_up(&mut self, id: RequestId) {
        let Some(request) = self.requests.find(id) else { return };
        if let Some(parent) = request.parent.take() {
            let (call, attempt) = (request.call, request.attempt);
            self.settle(parent.slot, call, attempt, Code::GatewayTimeout);
        }
    }

    /// A call came back or timed out: tries again, or counts it as done.
    fn settle(&mut self, caller: u32, call: u32, attempt: u8, code: Code) {
        let failed = code != Code::Ok;
        let Call { retries, critical, .. } = self.calls[call as usize];
        if failed && attempt < retries {
            return self.call(caller, call, attempt + 1);
        }
        let request = self.requests.get_mut(caller);
        if failed && critical && request.code == Code::Ok {
            request.code = if code == Code::GatewayTimeout { Code::GatewayTimeout } else { Code::BadGateway };
        }
        request.pending -= 1;
        if request.pending == 0 {
            self.advance(caller);
        }
    }

    fn set_effects(&mut self, service: ServiceId) {
        let mut effects = Effects::default();
        for fault in &self.faults {
            if fault.service != service || !(fault.start_ns..fault.end_ns()).contains(&self.now) {
                continue;
            }
            match fault.kind {
                FaultKind::CpuHog => effects.hog = (effects.hog + fault.magnitude).min(1.0),
                FaultKind::Latency => effects.wait_s += fault.magnitude,
                FaultKind::Errors => effects.errors = effects.errors.max(fault.magnitude),
                FaultKind::MemoryLeak | FaultKind::TrafficSpike => {}
            }
        }
        self.stations[service.index()].effects = effects;
    }

    fn end_fault(&mut self, number: u32) {
        let Fault { kind, service, .. } = self.faults[number as usize];
        self.set_effects(service);
        if kind == FaultKind::MemoryLeak {
            let nodes = self.stations[service.index()].nodes.clone();
            self.meters[nodes].iter_mut().for_each(Meter::free);
        }
    }

    fn extra(&mut self, number: u32) {
        let service = self.faults[number as usize].service;
        self.receive(Request { extra: true, ..Request::new(service, self.now) });
        self.plan_extra(number);
    }

    fn plan_extra(&mut self, number: u32) {
        let fault = self.faults[number as usize];
        let usual = self.workload.rate_at(seconds(self.now)) * self.topology.visits(fault.service);
        let rate = usual * fault.magnitude;
        if fault.kind != FaultKind::TrafficSpike || rate <= 0.0 {
            return;
        }
        let time = self.now + nanos(exponential(rate, &mut self.extra_rng));
        if time < fault.end_ns() {
            self.events.plan(time, Event::Extra(number));
        }
    }

    /// Lets the active leaks of the time between two scrapes run.
    fn leak(&mut self, from: u64, until: u64) {
        for fault in self.faults.iter().filter(|fault| fault.kind == FaultKind::MemoryLeak) {
            let (from, until) = (from.max(fault.start_ns), until.min(fault.end_ns()));
            // A fault that ended has been cleaned up already.
            if until > from && self.now < fault.end_ns() {
                let part = fault.magnitude * seconds(until - from) / 60.0;
                let nodes = self.stations[fault.service.index()].nodes.clone();
                self.meters[nodes].iter_mut().for_each(|meter| meter.leak(part));
            }
        }
    }

    fn scrape(&mut self) {
        for station in &self.stations {
            for node in station.nodes.clone() {
                let pool = &mut self.pools[node];
                pool.advance(self.now);
                let reading = Reading {
                    areas: pool.areas(),
                    in_system: pool.len(),
                    hog: station.effects.hog,
                    interval_s: seconds(self.scrape_ns),
                };
                self.meters[node].scrape(&reading, &mut self.noise_rng, &mut self.samples[first_sample(node)..]);
            }
        }
    }
}
