//! Clients: each keeps a token as a browser keeps a cookie, and makes visits to either process, in which it writes, reads and looks again from
//! the other one. What it does is thrown by dice of its own, from the round's seed; when, and what comes of it, is the servers' business.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::future::try_join_all;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::history::{Did, Event, How, Item, Outcome, Rows, Seq, SessionId, TokenId};
use crate::process::Process;

pub(crate) const CLIENTS: u32 = 10;
pub(crate) const ITEMS_EACH: u32 = 2;

/// Sessions that a client leaves open at a time.
const LEFT: usize = 6;

/// How far back rows are asked for.
const ROWS: Seq = 12;

type Token = (TokenId, String);

/// What all clients share.
pub(crate) struct Scene {
    pub(crate) processes: [Process; 2],
    pub(crate) began: Instant,
    pub(crate) events: Mutex<Vec<Event>>,
    /// What each client has shown to the others last.
    shown: Mutex<Vec<Option<Token>>>,
    numbers: AtomicU64,
}

impl Scene {
    pub(crate) fn new(processes: [Process; 2]) -> Self {
        Self {
            processes,
            began: Instant::now(),
            events: Mutex::default(),
            shown: Mutex::new(vec![None; CLIENTS as usize]),
            numbers: AtomicU64::new(1),
        }
    }

    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }
}

/// A session of a client in one of the processes.
#[derive(Clone, Copy, Debug)]
struct Session {
    process: usize,
    id: SessionId,
}

/// One client.
pub(crate) struct Client {
    scene: Arc<Scene>,
    number: u32,
    dice: StdRng,
    token: Option<Token>,
    /// Sessions that were left open, with all that they have written; the newest is last.
    left: Vec<Session>,
    /// The newest number that was tried, for each of its items.
    tried: [Seq; ITEMS_EACH as usize],
}

impl Client {
    pub(crate) fn new(scene: Arc<Scene>, number: u32, seed: u64) -> Self {
        Self {
            scene,
            number,
            dice: StdRng::seed_from_u64(seed ^ (u64::from(number + 1) << 32)),
            token: None,
            left: Vec::new(),
            tried: [0; ITEMS_EACH as usize],
        }
    }

    /// Visits until the round is over.
    pub(crate) async fn run(mut self, over: &AtomicBool) -> Result<Self> {
        while !over.load(Ordering::Acquire) {
            self.visit().await?;
            let pause = self.dice.random_range(0..40);
            sleep(Duration::from_millis(pause)).await;
        }
        Ok(self)
    }

    fn item(&self, index: usize) -> Item {
        self.number * ITEMS_EACH + u32::try_from(index).expect("few")
    }

    async fn visit(&mut self) -> Result<()> {
        let goes_on = self.dice.random_bool(0.2);
        let session = match self.left.pop_if(|_| goes_on) {
            Some(session) => session,
            None => {
                let process = self.dice.random_range(0..2);
                let token = self.token.clone();
                self.begin(process, token).await?
            }
        };
        let mut wrote = false;
        for _ in 0..self.dice.random_range(1..=5) {
            wrote |= self.step(session).await?;
        }
        let mut proved = true;
        if wrote {
            // Without an answer the client has its old token, which proves less.
            match self.prove(session).await? {
                Some(token) => self.token = Some(token),
                None => proved = false,
            }
        }
        if self.dice.random_bool(0.5) {
            // The same client comes by the other process.
            let token = self.token.clone();
            let other = self.begin(1 - session.process, token).await?;
            self.read(other, self.item(0)).await?;
            self.read_all(other, 1).await?;
            self.end(other).await?;
        }
        if self.dice.random_bool(0.3) {
            self.meet(session.process).await?;
        }
        if self.dice.random_bool(0.25) {
            self.pass_by().await?;
        }
        // What they have written is long ago and on a server that may have been replaced since: they must see it all the same.
        for index in 0..self.left.len() {
            if self.dice.random_bool(0.2) {
                self.read(self.left[index], self.item(index % ITEMS_EACH as usize))
                    .await?;
            }
        }
        if !proved || self.dice.random_bool(0.2) {
            self.left.push(session);
            if self.left.len() > LEFT {
                let oldest = self.left.remove(0);
                self.end(oldest).await?;
            }
            return Ok(());
        }
        self.end(session).await
    }

    /// Somebody who proves nothing, and looks at what others have.
    async fn pass_by(&mut self) -> Result<()> {
        let process = self.dice.random_range(0..2);
        let session = self.begin(process, None).await?;
        for _ in 0..2 {
            let item = self.dice.random_range(0..CLIENTS * ITEMS_EACH);
            self.read(session, item).await?;
        }
        self.end(session).await
    }

    /// Shows its token to the others, and goes on with one that was shown: whoever has that must see what its giver has written.
    async fn meet(&mut self, process: usize) -> Result<()> {
        let other = self.dice.random_range(0..CLIENTS);
        let shown = {
            let mut shown = self.scene.shown.lock().expect("nothing panics with it");
            shown[self.number as usize] = self.token.clone();
            shown[other as usize].clone()
        };
        let process = if self.dice.random_bool(0.5) {
            process
        } else {
            1 - process
        };
        let session = self.begin(process, shown).await?;
        for index in 0..ITEMS_EACH {
            self.read(session, other * ITEMS_EACH + index).await?;
        }
        if self.dice.random_bool(0.5) && self.write(session, 0).await? {
            // Proves both: what was shown, and what came on top of it.
            if let Some(token) = self.prove(session).await? {
                let onward = self.begin(1 - process, Some(token)).await?;
                self.read(onward, other * ITEMS_EACH).await?;
                self.read(onward, self.item(0)).await?;
                self.end(onward).await?;
            }
        }
        self.end(session).await
    }

    /// One step of a visit; whether something was acknowledged.
    async fn step(&mut self, session: Session) -> Result<bool> {
        let index = self.dice.random_range(0..ITEMS_EACH as usize);
        match self.dice.random_range(0..10) {
            0..=3 => {
                let wrote = self.write(session, index).await?;
                self.read(session, self.item(index)).await?;
                Ok(wrote)
            }
            4 => {
                // Both of its items at once.
                let attempts: Vec<_> = (0..ITEMS_EACH as usize).map(|i| self.attempt(i)).collect();
                let this = &*self;
                let writes = attempts.into_iter();
                let writes =
                    writes.map(async |(item, seq, how)| this.send(session, item, seq, how).await);
                let wrote = try_join_all(writes).await?;
                Ok(wrote.contains(&true))
            }
            5..=6 => {
                self.read(session, self.item(index)).await?;
                Ok(false)
            }
            7 => {
                let this = &*self;
                let reads =
                    (0..ITEMS_EACH as usize).map(async |i| this.read(session, this.item(i)).await);
                try_join_all(reads).await?;
                Ok(false)
            }
            _ => {
                self.read_all(session, index).await?;
                Ok(false)
            }
        }
    }

    fn attempt(&mut self, index: usize) -> (Item, Seq, How) {
        self.tried[index] += 1;
        let how = *How::ALL.choose(&mut self.dice).expect("there are some");
        (self.item(index), self.tried[index], how)
    }

    async fn write(&mut self, session: Session, index: usize) -> Result<bool> {
        let (item, seq, how) = self.attempt(index);
        self.send(session, item, seq, how).await
    }

    async fn send(&self, session: Session, item: Item, seq: Seq, how: How) -> Result<bool> {
        let request = json!({ "do": format!("{how:?}"), "item": item, "seq": seq });
        let event = self.ask(session, request, |answer| {
            let outcome = match answer["outcome"].as_str() {
                _ if how == How::TakenBack => Outcome::Refused,
                Some("Acknowledged") => Outcome::Acknowledged,
                Some("Refused") => Outcome::Refused,
                _ => Outcome::Unknown,
            };
            Ok(Did::Wrote {
                item,
                seq,
                how,
                outcome,
            })
        });
        let done = event.await?;
        let acknowledged = Outcome::Acknowledged;
        Ok(matches!(done, Did::Wrote { outcome, .. } if outcome == acknowledged))
    }

    async fn read(&self, session: Session, item: Item) -> Result<()> {
        let request = json!({ "do": "read", "item": item });
        self.ask(session, request, |answer| {
            let numbers = list(answer, "numbers");
            Ok(numbers.map_or(Did::ReadNothing(item), |numbers| Did::Read {
                item,
                numbers,
                rows: None,
            }))
        })
        .await
        .map(drop)
    }

    async fn read_all(&self, session: Session, index: usize) -> Result<()> {
        let (item, from) = (
            self.item(index),
            (self.tried[index] + 1).saturating_sub(ROWS),
        );
        let request = json!({ "do": "read all", "item": item, "from": from });
        self.ask(session, request, |answer| {
            let (Some(numbers), Some(seen)) = (list(answer, "numbers"), list(answer, "rows"))
            else {
                return Ok(Did::ReadNothing(item));
            };
            let rows = Some(Rows { from, seen });
            Ok(Did::Read {
                item,
                numbers,
                rows,
            })
        })
        .await
        .map(drop)
    }

    async fn prove(&self, session: Session) -> Result<Option<Token>> {
        let id = self.scene.number();
        let mut token = None;
        let request = json!({ "do": "prove" });
        self.ask(session, request, |answer| {
            token = answer["token"].as_str().map(|text| (id, text.to_owned()));
            Ok(Did::Proved(token.as_ref().map(|(id, _)| *id)))
        })
        .await?;
        Ok(token)
    }

    async fn begin(&self, process: usize, token: Option<Token>) -> Result<Session> {
        let id = self.scene.number();
        let session = Session { process, id };
        let (token, text) = token.unzip();
        let request = json!({ "do": "begin", "token": text });
        self.ask(session, request, |_| Ok(Did::Began(token)))
            .await?;
        Ok(session)
    }

    async fn end(&self, session: Session) -> Result<()> {
        let request = json!({ "do": "end", "session": session.id });
        self.scene.processes[session.process]
            .ask(request)
            .await
            .map(drop)
    }

    /// Asks the process, and makes an event of it.
    async fn ask(
        &self,
        session: Session,
        mut request: Value,
        did: impl FnOnce(&Value) -> Result<Did>,
    ) -> Result<Did> {
        let Session { process, id } = session;
        request["session"] = json!(id);
        let began = self.scene.began.elapsed();
        let answer = self.scene.processes[process].ask(request).await?;
        let ended = self.scene.began.elapsed();
        let did = did(&answer)?;
        let calls = answer["calls"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|call| {
                let took = call[1].as_f64().context("seconds")?;
                let name = call[0].as_str().context("a name")?.to_owned();
                Ok((name, Duration::from_secs_f64(took)))
            });
        let calls = calls.collect::<Result<_>>()?;
        let went = answer["went"].as_array().into_iter().flatten();
        let went = went
            .filter_map(|went| went.as_str().map(str::to_owned))
            .collect();
        let error = answer["error"].as_str().map(str::to_owned);
        let odd = answer["outcome"] == "Odd";
        let event = Event {
            process,
            session: id,
            began,
            ended,
            did: did.clone(),
            calls,
            went,
            error,
            odd,
        };
        self.scene
            .events
            .lock()
            .expect("nothing panics with it")
            .push(event);
        Ok(did)
    }

    /// After everything was healed: both processes write and read again, and each sees what the other one wrote.
    pub(crate) async fn settle(&mut self) -> Result<()> {
        for process in [0, 1] {
            let token = self.token.clone();
            let session = self.begin(process, token).await?;
            let (item, seq) = (self.item(0), self.tried[0] + 1);
            self.tried[0] = seq;
            let acknowledged = self.send(session, item, seq, How::Both).await?;
            anyhow::ensure!(
                acknowledged,
                "all is whole, and a write was not acknowledged: {:?}",
                self.last()
            );
            self.token = self.prove(session).await?.or(self.token.take());
            let token = self.token.clone();
            let other = self.begin(1 - process, token).await?;
            for session in [session, other] {
                self.read(session, item).await?;
                self.read_all(session, 0).await?;
                self.read_all(session, 1).await?;
            }
        }
        Ok(())
    }

    fn last(&self) -> Option<String> {
        let events = self.scene.events.lock().expect("nothing panics with it");
        let mine = events.iter().rev().find(|event| {
            event
                .item()
                .is_some_and(|item| item / ITEMS_EACH == self.number)
        });
        mine.map(ToString::to_string)
    }
}

fn list(answer: &Value, name: &str) -> Option<Vec<Seq>> {
    // A transaction that failed later on has shown nothing that counts.
    if answer["outcome"] != "Acknowledged" {
        return None;
    }
    answer[name].as_array()?.iter().map(Value::as_u64).collect()
}
