//! What is not touched, and why.

use replication::ClusterRow;
use time::macros::datetime;

use super::*;

#[test]
fn an_empty_pair_gets_a_state_before_anything_else() {
    let scene = Scene::new();
    let steps = scene.steps();
    assert!(
        matches!(&steps[..], [Step::Save(state)] if state.phase == Phase::Bootstrap && state.epoch == 1),
        "{steps:?}"
    );
    let world = World::whole();
    assert!(world.is_whole());
}

#[test]
fn the_first_start_waits_for_both_servers() {
    let mut scene = Scene::new();
    scene.gone(TWO);
    scene.only_says(|said| matches!(said, Condition::Silent { .. }));
}

#[test]
fn servers_with_a_past_are_not_set_up_without_a_state() {
    type Past = fn(&mut Facts);
    let pasts: [(Past, &str); 4] = [
        (
            |facts| facts.server.executed = gtids(1, "1"),
            "has executed",
        ),
        (
            |facts| facts.replica = Scene::whole().facts(TWO).replica.clone(),
            "replicates from mysql-1",
        ),
        (
            |facts| facts.server.super_read_only = false,
            "was opened by somebody",
        ),
        (
            |facts| {
                facts.row = Some(ClusterRow {
                    epoch: 3,
                    primary_server: TWO.to_owned(),
                    primary_uuid: UUIDS[1].to_owned(),
                    in_sync: vec![TWO.to_owned()],
                    phase: "steady".to_owned(),
                    changed_at: datetime!(2026-01-01 0:00),
                });
            },
            "publication of epoch 3",
        ),
    ];
    for (past, what) in pasts {
        let mut scene = Scene::new();
        past(scene.facts(TWO));
        let decision = scene.decide();
        assert_eq!(decision.steps, []);
        assert!(decision.refusals()[0].contains(what), "{decision:?}");
    }
    let mut scene = Scene::new();
    scene.facts(TWO).server.uuid = UUIDS[0].to_owned();
    scene.only_says(|said| matches!(said, Condition::SameServer(..)));
}

#[test]
fn another_server_than_the_recorded_one_is_not_touched() {
    // The primary's volume was thrown away.
    let mut scene = Scene::whole();
    *scene.facts(ONE) = Facts::of_a_new_server("another");
    scene.only_says(|said| matches!(said, Condition::OtherPrimary { .. }));
    scene.refuses(&Ask::Switchover, "stop mysql-1");
    // The replica is another one, and not empty.
    let mut scene = Scene::alone();
    scene.facts(TWO).server.uuid = "another".to_owned();
    let is_another = |said: &Condition| matches!(said, Condition::OtherReplica { .. });
    let decision = scene.decide();
    assert!(decision.conditions.iter().any(is_another), "{decision:?}");
    assert_eq!(decision.steps, []);
}

#[test]
fn a_primary_goes_on_without_a_replica_that_is_another_one() {
    let mut scene = Scene::whole();
    scene.facts(TWO).server.uuid = "another".to_owned();
    assert_eq!(scene.steps(), []);
    scene.look.heart = Heart::Silent;
    assert_eq!(scene.steps()[0], Step::Save(scene.state().alone()));
    // It is nobody to promote, whatever a person accepts.
    scene.gone(ONE);
    assert_eq!(scene.steps(), []);
    let ask = Ask::ForcePromote {
        server: TWO.to_owned(),
        accept_loss: true,
    };
    scene.refuses(&ask, "another data directory");
}

#[test]
fn a_state_that_is_older_than_what_was_published_is_not_acted_on() {
    for name in NAMES {
        let mut scene = Scene::whole();
        scene.facts(name).row.as_mut().unwrap().epoch = 2;
        scene.only_says(|said| matches!(said, Condition::OldState { .. }));
        let mut scene = Scene::whole();
        scene.facts(name).row.as_mut().unwrap().primary_server = TWO.to_owned();
        scene.only_says(|said| matches!(said, Condition::OldState { .. }));
    }
}

#[test]
fn a_configuration_of_another_pair_is_not_acted_on() {
    let scene = Scene::whole();
    let mut pair = pair();
    pair[1].name = "mysql-3".to_owned();
    let decision = decide(&pair, scene.state.as_ref(), &scene.look, &TIMING);
    assert_eq!(decision.steps, []);
    assert!(
        decision.refusals()[0].contains("mysql-1 and mysql-3"),
        "{decision:?}"
    );
}

#[test]
fn a_person_is_refused_too_where_nothing_may_be_touched() {
    let mut scene = Scene::whole();
    scene.facts(ONE).row.as_mut().unwrap().epoch = 2;
    scene.refuses(&Ask::Switchover, "not the newest");
}

#[test]
fn a_replica_of_somebody_else_is_not_taken_for_ours() {
    let mut scene = Scene::whole();
    scene.channel().source_uuid = "another".to_owned();
    let decision = scene.decide();
    let foreign = |said: &Condition| matches!(said, Condition::ForeignSource { .. });
    assert!(decision.conditions.iter().any(foreign), "{decision:?}");
}
