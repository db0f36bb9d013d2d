//! What is compared: the scenes, and who plays in which.

use crate::simulation::chooser::Way;
use crate::simulation::measures::Measures;
use crate::simulation::scene::Scene;
use crate::simulation::work::Work;
use crate::simulation::world::play;

/// The names of the ways to choose.
pub(crate) const OURS: &str = "least connections";
/// See [`OURS`].
pub(crate) const TWO_CHOICES: &str = "two choices";
/// See [`OURS`].
pub(crate) const ROUND_ROBIN: &str = "round robin";
/// See [`OURS`].
pub(crate) const RANDOM: &str = "random";

const ALL: [(&str, Way); 4] = [
    (OURS, Way::OURS),
    (TWO_CHOICES, Way::TwoChoices),
    (ROUND_ROBIN, Way::RoundRobin),
    (RANDOM, Way::Random),
];

/// A scene, and how each did in it.
pub(crate) struct Comparison {
    /// What it is called.
    pub(crate) title: &'static str,
    /// What is to be known before the figures.
    pub(crate) about: &'static str,
    /// The scene.
    pub(crate) scene: Scene,
    /// Who, and how it went.
    pub(crate) results: Vec<(&'static str, Measures)>,
}

/// Work that is as uneven as chance makes it.
pub(crate) fn equal_exponential() -> Comparison {
    played(
        "Equal backends, uneven work",
        "Work is exponential.",
        Scene::equal(Work::Exponential),
        &ALL,
    )
}

/// Work of which a little is large.
pub(crate) fn equal_lognormal() -> Comparison {
    played(
        "Equal backends, very uneven work",
        "Work is lognormal, as in all that follow: half of the requests are below 6 ms, and one in a hundred is above 60.",
        Scene::equal(Work::Lognormal),
        &ALL,
    )
}

/// One that is slow.
pub(crate) fn one_is_slow() -> Comparison {
    played(
        "One backend three times slower",
        "Who sends it as much as the others sends more than it can do: its queue grows for as long as that lasts, here 35 s.",
        Scene::one_is_slow(0.65),
        &ALL,
    )
}

/// One that is slow, with so little to do that it can bear a full share.
pub(crate) fn one_is_slow_at_night() -> Comparison {
    played(
        "One backend three times slower, at night",
        "So little comes that it can bear a whole share.",
        Scene::one_is_slow(0.3),
        &ALL,
    )
}

/// One that fails.
pub(crate) fn one_fails() -> Comparison {
    let mut ways = ALL.to_vec();
    ways.insert(1, ("the same without echoes", Way::WITHOUT_ECHOES));
    played(
        "One backend fails at once",
        "It answers with an error in 0.1 ms, and nobody ejects it. An error counts on as an echo, for as long as a good answer would have taken. \
         Times are those of good answers.",
        Scene::one_fails(),
        &ways,
    )
}

/// Two who count alone.
pub(crate) fn of_a_pair() -> Comparison {
    let mut pair = played(
        "Two balancers, each of which counts alone",
        "The skew is that of both together. The first line is one balancer with the same requests.",
        Scene::of_a_pair(),
        &ALL,
    );
    let alone = play(&Scene::equal(Work::Lognormal), Way::OURS);
    pair.results.insert(0, ("least connections, one", alone));
    pair
}

/// One that comes back.
pub(crate) fn one_recovers() -> Comparison {
    played(
        "One backend recovers",
        "It comes back with empty caches: its first request takes ten times as long, and what is above the usual shrinks by two thirds with every \
         1000 requests. Measured are the 10 s after its return. With a slow start its share grows from 10 % to all of it in that time.",
        Scene::one_recovers(),
        &[("slow start", Way::OURS), ("none", Way::WITHOUT_SLOW_START)],
    )
}

/// All of them.
pub(crate) fn all() -> Vec<Comparison> {
    vec![
        equal_exponential(),
        equal_lognormal(),
        one_is_slow(),
        one_is_slow_at_night(),
        one_fails(),
        of_a_pair(),
        one_recovers(),
    ]
}

fn played(
    title: &'static str,
    about: &'static str,
    scene: Scene,
    ways: &[(&'static str, Way)],
) -> Comparison {
    let results = ways.iter().map(|(name, way)| (*name, play(&scene, *way)));
    Comparison {
        title,
        about,
        results: results.collect(),
        scene,
    }
}
