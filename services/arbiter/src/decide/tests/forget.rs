//! What makes no difference is forgotten, so that worlds that go on in the same way are the same.

use super::acts::Act;
use super::model::{Age, Receiver, Server, Set, Stage, Write};
use super::world::{SEMI_SYNC, World};

impl World {
    /// Forgets what makes no difference any more, so that worlds that go on in the same way are the same.
    pub(super) fn forget(&mut self) {
        self.forget_ages();
        self.forget_transactions();
    }

    /// Ages that nobody asks for are old.
    fn forget_ages(&mut self) {
        let old = |age: &mut Option<Age>| *age = age.map(|_| Age::Old);
        let memory = &mut self.memory;
        // Of this it only matters whether there is one.
        old(&mut memory.ages[SEMI_SYNC]);
        if let Some((stage, age)) = &mut memory.phase
            && *stage != Stage::Switchover
        {
            *age = Age::Old;
        }
        if let Some(beat) = &mut memory.acknowledged
            && (beat.age == Age::Old || !beat.since_writable)
        {
            (beat.age, beat.since_writable) = (Age::Old, false);
        }
        for server in &mut self.servers {
            if let Some(channel) = &mut server.channel
                && channel.receiver != Receiver::On
            {
                old(&mut channel.link);
            }
        }
    }

    /// Those that both servers have executed or none has, and those that cannot be told from their neighbour.
    fn forget_transactions(&mut self) {
        let [first, second] = &self.servers;
        let done = first.executed & second.executed;
        let gone = !(first.holds() | second.holds());
        let mut kept: Vec<u8> = Vec::new();
        let mut slots = [u8::MAX; Set::BITS as usize];
        for number in 0..u8::try_from(self.transactions.len()).unwrap() {
            if (done | gone) & (1 << number) != 0 {
                continue;
            }
            if let Some(&last) = kept.last()
                && self.profile(last) == self.profile(number)
                && self.transactions[usize::from(number)].write != Write::Bulk
            {
                continue;
            }
            slots[usize::from(number)] = kept.len().try_into().unwrap();
            kept.push(number);
        }
        if kept.len() == self.transactions.len() {
            return;
        }
        if done != 0 {
            self.servers[0].base = true;
            self.servers[1].base = true;
        }
        let map = |set: Set| {
            (0..)
                .zip(&kept)
                .filter(|&(_, &old)| set & (1 << old) != 0)
                .fold(0, |new: Set, (slot, _)| new | 1 << slot)
        };
        for server in &mut self.servers {
            for set in [&mut server.executed, &mut server.acked, &mut server.purged] {
                *set = map(*set);
            }
            if let Some(channel) = &mut server.channel {
                channel.received = map(channel.received);
                channel.unsynced = map(channel.unsynced);
            }
            server
                .pipeline
                .retain(|commit| slots[usize::from(commit.number)] != u8::MAX);
            for commit in &mut server.pipeline {
                commit.number = slots[usize::from(commit.number)];
            }
        }
        self.saved = map(self.saved);
        if let Some((base, set)) = &mut self.memory.executed {
            (*base, *set) = (*base || done != 0, map(*set));
        }
        if let Some(beat) = &mut self.memory.beating {
            beat.number = slots[usize::from(beat.number)];
        }
        for act in &mut self.pending {
            if let Act::SaveDiscarded(_, errant) = act {
                *errant = map(*errant);
            }
        }
        self.transactions = kept
            .iter()
            .map(|&number| self.transactions[usize::from(number)])
            .collect();
    }

    /// All that a transaction can be told by.
    fn profile(&self, number: u8) -> impl PartialEq + use<> {
        let bit: Set = 1 << number;
        let one = self.transactions[usize::from(number)];
        let of = |server: &Server| {
            let commit = server
                .pipeline
                .iter()
                .find(|commit| commit.number == number);
            let channel = server.channel.as_ref();
            let channel = channel.map(|c| (c.received & bit != 0, c.unsynced & bit != 0));
            (
                [server.executed, server.acked, server.purged].map(|set| set & bit != 0),
                commit.map(|commit| (commit.waits, commit.heard)),
                channel,
            )
        };
        let beating = self
            .memory
            .beating
            .is_some_and(|beat| beat.number == number);
        let remembered = self.memory.executed.map(|(_, set)| set & bit != 0);
        let in_acts = self
            .pending
            .iter()
            .any(|act| matches!(act, Act::SaveDiscarded(_, errant) if errant & bit != 0));
        (
            one,
            self.servers.each_ref().map(of),
            (beating, remembered, in_acts, self.saved & bit != 0),
        )
    }
}
