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
    scene.look.primary_away = time;
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

    let gone = status(&missed_for(Scene::whole(), PATIENCE), &told);
    assert!(!gone.open && !gone.acknowledging);
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
