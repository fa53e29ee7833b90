//! What to do about the health of a version. Thresholds are the same for every model.
use super::{Duel, Health};

/// Rows scored before anything is decided about a champion ...
const CHAMPION_ROWS_MIN: u64 = 200;
/// ... and about a challenger.
const CHALLENGER_ROWS_MIN: u64 = 1_000;
/// Alarms or residuals as odd as this are no chance.
const ODD: f64 = 1e-4;
/// One version is better than another when chance is less likely than this.
const BETTER: f64 = 0.01;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Nothing.
    Keep,
    /// The challenger becomes the champion.
    Promote,
    /// The challenger goes.
    Reject,
    /// The champion before this one comes back.
    RollBack,
}

/// One version: how it did since it was trained, and in training.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// On rows after its training.
    pub since: &'a Health,
    /// In training, each row scored before it was learnt.
    pub training: &'a Health,
}

impl Side<'_> {
    /// Whether it behaves as it did in training: neither alarms nor residuals are odd.
    pub fn is_sound(&self) -> bool {
        let calibration = self.since.calibration(self.training).unwrap_or(1.0);
        let drift = self.since.drift(self.training).map_or(1.0, |drift| drift.p_value);
        calibration >= ODD && drift >= ODD
    }
}

/// About a champion beside the one before it. `duel` has the champion first. An incident makes both odd; only a champion
/// that is odd and foretells worse than its predecessor is bad.
pub fn champion(champion: Side<'_>, duel: &Duel) -> Advice {
    let worse = duel.p_second_not_better().is_some_and(|p| p < BETTER);
    let odd = champion.since.scored() >= CHAMPION_ROWS_MIN && !champion.is_sound();
    if odd && worse { Advice::RollBack } else { Advice::Keep }
}

/// About a challenger. `duel` has the champion first. It was trained on newer rows, so it need not be better, only not
/// worse, and sound.
pub fn challenger(challenger: Side<'_>, duel: &Duel) -> Advice {
    if challenger.since.scored() < CHALLENGER_ROWS_MIN {
        return Advice::Keep;
    }
    match duel.p_second_not_better() {
        None => Advice::Keep,
        Some(p) if p > 1.0 - BETTER => Advice::Reject,
        Some(_) if challenger.is_sound() => Advice::Promote,
        Some(p) if p > 0.5 => Advice::Reject,
        Some(_) => Advice::Keep,
    }
}
