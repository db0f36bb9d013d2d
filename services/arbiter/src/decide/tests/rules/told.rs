//! What people and programs are told of it.

use super::*;
use crate::status::Status;

const PATIENCE: Duration = Duration::from_millis(1500);

fn status(scene: &Scene, before: &Status) -> Status {
    Status::of(
        scene.state.as_ref(),
        &scene.decide(),
        &scene.look,
        before,
        PATIENCE,
    )
}

fn missed_for(mut scene: Scene, time: Duration) -> Scene {
    scene.gone(ONE);
    scene.look.primary_unseen = time;
    scene
}

#[test]
fn a_primary_that_misses_a_look_takes_writes_as_it_did() {
    let whole = status(&Scene::whole(), &Status::default());
    assert!(whole.open && whole.acknowledging);
    let missed = missed_for(Scene::whole(), PATIENCE / 2);
    let told = status(&missed, &whole);
    assert!(told.open && told.acknowledging);
    let server = told.servers.iter().find(|server| server.name == ONE);
    assert!(server.is_some_and(|server| !server.reachable));
    // It answers again, and the next heartbeat is still to come.
    let mut back = Scene::whole();
    back.look.heart = Heart::Unknown;
    assert!(status(&back, &told).acknowledging);

    let mut lost = Scene::primary_lost();
    lost.look.primary_unseen = PATIENCE;
    let gone = status(&lost, &told);
    assert!(!gone.open && !gone.acknowledging);
}

#[test]
fn a_primary_that_only_the_arbiter_misses_takes_writes_as_it_did() {
    let whole = status(&Scene::whole(), &Status::default());
    let mut missed = missed_for(Scene::whole(), LONG);
    missed.channel().receiver = "ON".to_owned();
    missed.channel().link_age = Some(Duration::ZERO);
    assert!(status(&missed, &whole).open);
    assert!(!status(&missed, &Status::default()).open);
}

#[test]
fn of_a_replica_that_receives_nothing_it_is_not_said_that_it_is_not_behind() {
    let of_the_replica = |scene: &Scene| {
        let status = status(scene, &Status::default());
        let mut servers = status.servers.into_iter();
        servers.find(|server| server.name == TWO).unwrap()
    };
    let whole = of_the_replica(&Scene::whole());
    assert_eq!((whole.lag_ms, whole.acknowledging), (Some(0), Some(true)));
    let mut cut = Scene::whole();
    cut.channel().receiver = "CONNECTING".to_owned();
    assert_eq!(of_the_replica(&cut).lag_ms, None);
    // Alone, the primary acknowledges its heartbeats itself.
    assert_eq!(of_the_replica(&Scene::alone()).acknowledging, Some(false));
}

#[test]
fn what_was_so_in_another_epoch_or_of_a_closed_primary_is_not_so() {
    let missed = missed_for(Scene::whole(), PATIENCE / 2);
    assert!(!status(&missed, &Status::default()).open);
    let mut before = status(&Scene::whole(), &Status::default());
    let mut closed = Scene::whole();
    closed.facts(ONE).server.read_only = true;
    closed.facts(ONE).server.super_read_only = true;
    closed.look.heart = Heart::Unknown;
    let told = status(&closed, &before);
    assert!(!told.open && !told.acknowledging);
    before.epoch += 1;
    let told = status(&missed, &before);
    assert!(!told.open && !told.acknowledging);
}
