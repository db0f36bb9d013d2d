//! What the admin socket answers: how the balancer is, and what an operator wants of its backends.

use std::sync::Arc;

use crate::config::{Mode, WEIGHT_MAX};
use crate::desired::Desired;
use crate::edge::Edge;
use crate::metrics::Now;
use crate::reload::Reload;
use crate::rotation::Wish;
use crate::status::status;

/// What there is, for whoever asks for something else.
const COMMANDS: &str = "health, status, metrics, reload, drain BACKEND, ready BACKEND, maint BACKEND, weight BACKEND WEIGHT|default, \
     mode active-active|active-passive|default";

/// Answers one command, with JSON.
///
/// # Errors
/// A sentence for the caller: what is wrong and what to do.
pub fn answer(edge: &Arc<Edge>, reload: &Reload, command: &str) -> Result<String, String> {
    let words: Vec<&str> = command.split_ascii_whitespace().collect();
    match words[..] {
        ["health"] => Ok(json(&health(edge))),
        ["status"] => Ok(json(&status(edge))),
        ["metrics"] => Ok(json(&metrics(edge))),
        ["reload"] => reload.reload().map(|told| json(&told)),
        ["drain", backend] => wish(edge, backend, Wish::Drain),
        ["ready", backend] => wish(edge, backend, Wish::Ready),
        ["maint", backend] => wish(edge, backend, Wish::Maint),
        ["weight", backend, text] => weight(edge, backend, text),
        ["mode", text] => mode(edge, text),
        _ => Err(format!(
            "there is no command `{command}`; there are: {COMMANDS}"
        )),
    }
}

/// All metrics as text, as they are now.
pub fn metrics(edge: &Edge) -> String {
    edge.metrics.render(&Now {
        backends: &edge.roster.conditions(),
        is_last_resort: edge.roster.is_last_resort(),
        connections: edge.traffic.connections(),
        waiting: edge.roster.queue().waiting(),
        clients: edge.clients.len(),
        certificate_days_left: edge.certificates.days_left(),
    })
}

/// "ok" as long as it takes requests; backends that are away are not the balancer's illness.
fn health(edge: &Edge) -> &'static str {
    if edge.traffic.is_stopping() {
        "stopping: no new connections are taken"
    } else {
        "ok"
    }
}

fn wish(edge: &Edge, backend: &str, wish: Wish) -> Result<String, String> {
    is_known(edge, backend)?;
    want(edge, |desired| {
        desired.want(backend, |wanted| wanted.state = wish);
    })?;
    if wish == Wish::Ready {
        edge.roster.forgive(backend);
    }
    let deadline = edge.config.balancing.drain_deadline_s;
    Ok(json(&match wish {
        Wish::Ready => format!("{backend} gets requests as soon as it passes its checks"),
        Wish::Drain => format!(
            "{backend} gets nothing new and finishes what it has; WebSockets are ended in {deadline} s"
        ),
        Wish::Maint => format!(
            "{backend} gets nothing new, finishes what it has and is not looked at; WebSockets are ended in {deadline} s"
        ),
    }))
}

fn weight(edge: &Edge, backend: &str, text: &str) -> Result<String, String> {
    is_known(edge, backend)?;
    let weight = match (text, text.parse()) {
        ("default", _) => None,
        (_, Ok(weight @ 1..=WEIGHT_MAX)) => Some(weight),
        _ => {
            return Err(format!(
                "`{text}` is no weight: give 1 to {WEIGHT_MAX}, or `default`; to take a backend out, `drain` it"
            ));
        }
    };
    want(edge, |desired| {
        desired.want(backend, |wanted| wanted.weight = weight);
    })?;
    Ok(json(&match weight {
        Some(weight) => format!("{backend} has the weight {weight}"),
        None => format!("{backend} has the weight of the configuration"),
    }))
}

fn mode(edge: &Edge, text: &str) -> Result<String, String> {
    let mode = match text {
        "default" => None,
        text => {
            let modes = [Mode::ActiveActive, Mode::ActivePassive];
            let mode = modes.into_iter().find(|mode| mode.as_str() == text);
            Some(mode.ok_or_else(|| {
                format!("there is no mode `{text}`: active-active, active-passive or default")
            })?)
        }
    };
    want(edge, |desired| desired.mode = mode)?;
    Ok(json(&format!(
        "the mode is {}",
        edge.roster.mode().as_str()
    )))
}

fn want(edge: &Edge, change: impl FnOnce(&mut Desired)) -> Result<(), String> {
    edge.roster.want(&edge.metrics, change).map_err(|error| {
        format!("nothing is changed, for it cannot be written down: {error}; look at balancing.state_file")
    })
}

fn is_known(edge: &Edge, backend: &str) -> Result<(), String> {
    let reports = edge.roster.report();
    let names: Vec<&str> = reports.iter().map(|one| one.backend.name()).collect();
    match names.contains(&backend) {
        true => Ok(()),
        false => Err(format!(
            "there is no backend `{backend}`; there are: {}",
            names.join(", ")
        )),
    }
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("text and numbers are always JSON")
}
