//! The requests in the system: a slab whose slots are used again.
use super::event::RequestId;
use super::metrics::Code;
use super::topology::ServiceId;

/// A request at one service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) arrived: u64,
    /// Who waits for the answer; nobody for customers, or after a time-out.
    pub(crate) parent: Option<RequestId>,
    /// The caller's call that this request is an attempt of.
    pub(crate) call: u32,
    pub(crate) attempt: u8,
    /// The next stage of calls to make.
    pub(crate) stage: u8,
    /// Calls under way.
    pub(crate) pending: u16,
    pub(crate) service: ServiceId,
    pub(crate) node: u32,
    pub(crate) code: Code,
    /// Belongs to a traffic spike.
    pub(crate) extra: bool,
}

impl Request {
    /// A request without a caller.
    pub(crate) fn new(service: ServiceId, arrived: u64) -> Self {
        Self {
            arrived,
            parent: None,
            call: 0,
            attempt: 0,
            stage: 0,
            pending: 0,
            service,
            node: 0,
            code: Code::Ok,
            extra: false,
        }
    }
}

struct Slot {
    generation: u32,
    request: Option<Request>,
}

/// All requests in the system.
#[derive(Default)]
pub(crate) struct Requests {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Requests {
    pub(crate) fn insert(&mut self, request: Request) -> RequestId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, request: None });
            self.slots.len() as u32 - 1
        });
        self.slots[slot as usize].request = Some(request);
        self.id(slot)
    }

    pub(crate) fn id(&self, slot: u32) -> RequestId {
        RequestId { slot, generation: self.slots[slot as usize].generation }
    }

    /// The request of a slot that is known to be in use.
    pub(crate) fn get_mut(&mut self, slot: u32) -> &mut Request {
        self.slots[slot as usize].request.as_mut().expect("a slot in use")
    }

    /// The request, unless it has left.
    pub(crate) fn find(&mut self, id: RequestId) -> Option<&mut Request> {
        let slot = &mut self.slots[id.slot as usize];
        if slot.generation == id.generation { slot.request.as_mut() } else { None }
    }

    pub(crate) fn remove(&mut self, slot: u32) -> Request {
        let used = &mut self.slots[slot as usize];
        used.generation = used.generation.wrapping_add(1);
        self.free.push(slot);
        used.request.take().expect("a slot in use")
    }
}
