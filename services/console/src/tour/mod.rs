//! `./stack tour`: five steps in two minutes. Each is a command that a reader could type, its output, and a line that explains it.
//!
//! The tour breaks something twice, and says so before. Whatever ends it, it puts back what it broke. It judges what it shows: a step that
//! does not show what it should ends the tour with an error, so a test that runs it is a test of what it promises.

mod app;
mod broken;
mod shell;

use std::cell::RefCell;
use std::io::IsTerminal;
use std::time::Duration;

use app::{App, Call};
use broken::Broken;
use shell::{Shell, body, header, show, show_command};

use crate::{
    compose,
    roll::until,
    settings::Settings,
    status::{self, BALANCERS},
};

/// Requests while one web server is frozen, and while one is killed.
const REQUESTS: [usize; 2] = [300, 3000];

/// How often the read is asked before both web servers have answered one.
const READS_MAX: usize = 40;

/// How long a stack that is not whole may take to become so: a health check that came late on a busy machine is none that failed.
const WHOLE_WITHIN: Duration = Duration::from_secs(30);

/// Why the tour ended early.
#[derive(Debug, thiserror::Error)]
pub enum TourError {
    /// It shows a stack that is whole.
    #[error("the tour shows a whole stack, and this one is not: {0}; ./stack up makes it so")]
    NotWhole(String),
    /// Nothing can be shown.
    #[error("{0}")]
    CannotShow(String),
    /// What it says would not be true.
    #[error("this is not what should be seen: {0}")]
    NotAsPromised(String),
    /// A person has seen enough.
    #[error("the tour was ended; what it broke is put back")]
    Ended,
}

impl From<std::io::Error> for TourError {
    fn from(error: std::io::Error) -> Self {
        Self::CannotShow(error.to_string())
    }
}

type Step = Result<(), TourError>;

/// Shows all of it; between the steps it waits for Enter, on a terminal, unless `yes`.
///
/// # Errors
/// When a step does not show what it should, or the tour is ended.
pub async fn tour(yes: bool, settings: &Settings) -> Step {
    whole().await?;
    let app = App::load().map_err(TourError::CannotShow)?;
    let broken = Broken::nothing();
    let mut tour = Tour {
        shell: Shell::default(),
        app,
        asks: !yes && std::io::stdin().is_terminal() && std::io::stdout().is_terminal(),
        broken: &broken,
        base: settings.edge_url(),
    };
    let outcome = tokio::select! {
        outcome = tour.all() => outcome,
        _ = tokio::signal::ctrl_c() => Err(TourError::Ended),
    };
    broken.put_back().await;
    outcome
}

/// Waits until the stack is whole, and says what for.
async fn whole() -> Step {
    let said = RefCell::new(String::new());
    let whole = until(WHOLE_WITHIN, async || {
        let report = status::look().await;
        if report.is_well() {
            return Ok(());
        }
        if *said.borrow() != report.verdict {
            eprintln!("waiting for a whole stack: {}", report.verdict);
            said.replace(report.verdict.clone());
        }
        Err(report.verdict)
    });
    whole.await.map_err(TourError::NotWhole)
}

struct Tour<'a> {
    shell: Shell,
    app: App,
    /// Enter is waited for.
    asks: bool,
    broken: &'a Broken,
    base: String,
}

impl Tour<'_> {
    async fn all(&mut self) -> Step {
        let version = self.shell.quietly("curl --version").await?;
        if !version.well {
            return Err(TourError::CannotShow(
                "the tour calls curl, and there is none here: install it".to_owned(),
            ));
        }
        self.shell.set("BASE", &self.base.clone());
        println!(
            "Five steps. In all of them `call` is curl with the stack's own authority, and $BASE is the edge:\n"
        );
        show_command(shell::CALL);
        show_command(&format!("BASE={}", self.base));
        self.a_request_and_its_trace().await?;
        self.next().await?;
        self.least_connections().await?;
        self.next().await?;
        self.write_here_read_there().await?;
        self.next().await?;
        self.a_web_server_dies().await?;
        self.next().await?;
        self.what_the_firewall_refuses().await?;
        println!(
            "\nThat was all of it, and everything is as it was. Next:\n  \
             ./stack status           how everything is, now\n  \
             ./stack load smoke       owners by the dozen, checked by k6\n  \
             ./stack roll web         both web servers replaced while it serves\n  \
             docs/questions.md        why it is built like this, a command for each answer\n  \
             docker compose kill mysql-2, then ./stack status: what a replica is good for"
        );
        Ok(())
    }

    /// Waits for Enter where a person can press it.
    async fn next(&self) -> Step {
        if !self.asks {
            return Ok(());
        }
        println!("\n(Enter goes on, Ctrl-C ends the tour)");
        let read = tokio::task::spawn_blocking(|| {
            let mut line = String::new();
            std::io::stdin().read_line(&mut line)
        });
        read.await.map_err(std::io::Error::other)??;
        Ok(())
    }

    async fn a_request_and_its_trace(&mut self) -> Step {
        title(1, "a request and its trace");
        let call = self.app.begin.clone();
        let answer = self.answer(&call, "--include").await?;
        let trace = header(&answer, "traceresponse")
            .unwrap_or_default()
            .to_owned();
        explain(
            "Balancer, web server and router wrote down what they did for it, under the id in `traceresponse`:",
        );
        let said = self.shell.run(&format!("./stack trace {trace}")).await?;
        expect(said.well, "./stack trace knows nothing of the request")?;
        explain(
            "Each line is work, below the work that asked for it, with its time; then the log lines that name the same id.",
        );
        Ok(())
    }

    async fn least_connections(&mut self) -> Step {
        title(2, "least connections: who is slow gets less");
        explain(
            "web-1 is frozen for a moment (not killed: its connections stay open and it answers nothing). A round robin would send it every second request.",
        );
        self.broken.freezes("web-1");
        self.done("docker compose kill --signal STOP web-1").await?;
        let [count, _] = REQUESTS;
        let load = self.load(count);
        show_command(&format!("{load} &"));
        let background = self.shell.clone();
        let running = tokio::spawn(async move { background.quietly(&load).await });
        self.held_by("web-1").await?;
        self.well("./stack status | grep sees").await?;
        self.done("docker compose kill --signal CONT web-1").await?;
        self.broken.is_whole("web-1");
        show_command("wait");
        let said = running.await.map_err(std::io::Error::other)??;
        show(&said.text, counted);
        let (well, of_web_1) = (count_of(&said.text, " 200"), count_of(&said.text, "web-1"));
        expect(
            well == count,
            &format!("{well} of {count} requests were answered with 200"),
        )?;
        expect(
            of_web_1 * 3 < count,
            &format!("the frozen web-1 got {of_web_1} of {count} requests"),
        )?;
        explain(
            "A request counts on a backend from its choice to its last byte. Those that hung at web-1 counted all the time, so nearly all others went to web-2; none failed.",
        );
        self.both_up().await
    }

    async fn write_here_read_there(&mut self) -> Step {
        title(3, "write here, read there");
        let call = self.app.write.clone();
        let answer = self.answer(&call, "--include").await?;
        let wrote = header(&answer, "x-served-by")
            .unwrap_or_default()
            .to_owned();
        let causal = header(&answer, "causal-token")
            .unwrap_or_default()
            .to_owned();
        self.shell.set("CAUSAL", &causal);
        explain(&format!(
            "The primary took it, and answered when the replica had it on disk too. {wrote} gives a causal token that proves the write. Now the other web server is asked:"
        ));
        let call = format!("{} --include", self.app.read.call.trim());
        let mut read = None;
        for _ in 0..READS_MAX {
            let said = self.shell.quietly(&call).await?;
            if header(&said.text, "x-served-by").is_some_and(|by| by != wrote) {
                read = Some(said.text);
                break;
            }
        }
        show_command(&call);
        let read = read.ok_or_else(|| {
            TourError::NotAsPromised(format!("{READS_MAX} reads were all answered by {wrote}"))
        })?;
        show(&read, matters);
        expect(
            read.starts_with("HTTP/2 200"),
            "the write is not seen on the other web server",
        )?;
        explain(
            "It is there at once. `x-db` says which database was read and why: the replica if it already has all that this session wrote, else the primary.",
        );
        Ok(())
    }

    async fn a_web_server_dies(&mut self) -> Step {
        title(4, "a web server is killed under load");
        explain(
            "web-1 is killed, as by a crash, while requests come; it is started again afterwards.",
        );
        let [_, count] = REQUESTS;
        let load = self.load(count);
        show_command(&format!("{load} &"));
        let background = self.shell.clone();
        let running = tokio::spawn(async move { background.quietly(&load).await });
        self.some_are_served().await?;
        self.broken.stops("web-1");
        self.done("docker compose kill web-1").await?;
        show_command("wait");
        let said = running.await.map_err(std::io::Error::other)??;
        show(&said.text, counted);
        let well = count_of(&said.text, " 200");
        expect(
            well == count,
            &format!("{well} of {count} requests were answered with 200"),
        )?;
        explain(
            "0 failed. What web-1 had not begun went to web-2; what it might have begun was sent again only because a GET may be.",
        );
        self.done("docker compose start web-1").await?;
        self.both_up().await?;
        self.broken.is_whole("web-1");
        Ok(())
    }

    async fn what_the_firewall_refuses(&mut self) -> Step {
        title(5, "what the firewall refuses");
        explain(
            "Each pod has a firewall that lets through what docker/matrix.toml names, in both directions. From web-1's pod: the database, which it needs, and the arbiter, which is none of its business.",
        );
        let counter = "docker compose exec -T fw-web-1 nft list counter inet fw out_no_flow";
        let before = packets(&self.well(counter).await?);
        let reach = "docker compose exec -T fw-web-1 /usr/local/bin/firewall reach mysql-1:3306 arbiter:9101";
        let begun = std::time::Instant::now();
        let said = self.well(reach).await?;
        let took = begun.elapsed().as_millis();
        expect(
            said.contains("mysql-1:3306 open"),
            "web-1 does not reach its database",
        )?;
        expect(
            said.contains("arbiter:9101 refused"),
            "the arbiter can be reached from web-1's pod",
        )?;
        let after = packets(&self.well(counter).await?);
        expect(after > before, "the refusal was not counted")?;
        explain(&format!(
            "Refused at once ({took} ms with all of Compose's own time, no waiting), before it left the pod, and counted: {} packets more.",
            after - before
        ));
        Ok(())
    }

    /// Runs one of the app's calls, shows what matters of the answer, and keeps what later ones need.
    async fn answer(&mut self, call: &Call, option: &str) -> Result<String, TourError> {
        self.shell
            .set("KEY", &format!("tour-{}-{}", std::process::id(), now_ms()));
        let command = format!("{} {option}", call.call.trim());
        let said = self.shell.run_and_pick(&command, matters).await?;
        let answered = said.text.lines().next().unwrap_or_default();
        expect(
            answered.contains(" 20"),
            &format!("the answer is {answered:?}"),
        )?;
        let kept = call
            .kept(body(&said.text))
            .map_err(TourError::NotAsPromised)?;
        for (name, value) in kept {
            self.shell.set(&name, &value);
            show_command(&format!(
                "{name}={}",
                value.chars().take(24).collect::<String>()
                    + if value.len() > 24 { "…" } else { "" }
            ));
        }
        Ok(said.text)
    }

    /// Runs a command that has to end well.
    async fn well(&self, command: &str) -> Result<String, TourError> {
        let said = self.shell.run(command).await?;
        expect(said.well, &format!("`{command}` failed"))?;
        Ok(said.text)
    }

    /// Runs a command of Compose's that has to end well and whose words say nothing new.
    async fn done(&self, command: &str) -> Step {
        show_command(command);
        let said = self.shell.quietly(command).await?;
        expect(
            said.well,
            &format!("`{command}` failed: {}", said.text.trim()),
        )
    }

    /// So many requests, eight at a time on connections of their own, and how many of each answer there were.
    fn load(&self, count: usize) -> String {
        format!(
            "call --parallel --parallel-immediate --parallel-max 8 -o /dev/null -D - \"$BASE/#[1-{count}]\" | grep -iE '^(HTTP|x-served-by)' | sort | uniq -c"
        )
    }

    /// Waits until a balancer counts a request on it.
    async fn held_by(&self, backend: &str) -> Step {
        self.seen(&format!("no request hangs at {backend}"), |found| {
            found.name == backend && found.in_flight > 0
        })
        .await
    }

    /// Waits until requests are under way.
    async fn some_are_served(&self) -> Step {
        self.seen("no request is under way", |found| found.in_flight > 0)
            .await
    }

    async fn seen(&self, otherwise: &str, is: impl Fn(&status::Backend) -> bool) -> Step {
        for _ in 0..20 {
            for balancer in BALANCERS {
                let edge = status::edge(balancer).await.unwrap_or_default();
                if edge.backends.iter().any(&is) {
                    return Ok(());
                }
            }
        }
        Err(TourError::NotAsPromised(otherwise.to_owned()))
    }

    /// Waits until both balancers send to both web servers again.
    async fn both_up(&self) -> Step {
        for _ in 0..200 {
            let mut up = 0;
            for balancer in BALANCERS {
                let edge = status::edge(balancer).await.unwrap_or_default();
                up += edge.backends.iter().filter(|found| found.is_well()).count();
            }
            if up == 4 {
                return Ok(());
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        let containers = compose::containers().await.unwrap_or_default();
        Err(TourError::NotAsPromised(format!(
            "the balancers do not send to both web servers again: {containers:?}"
        )))
    }
}

fn title(number: usize, text: &str) {
    println!("\n{number}. {text}\n");
}

fn explain(text: &str) {
    println!("  {text}");
}

fn expect(holds: bool, otherwise: &str) -> Step {
    if holds {
        Ok(())
    } else {
        Err(TourError::NotAsPromised(otherwise.to_owned()))
    }
}

/// The lines of an answer that the tour speaks of.
fn matters(line: &str) -> bool {
    let heads = [
        "HTTP/",
        "x-served-by",
        "x-db",
        "causal-token",
        "traceresponse",
        "{",
    ];
    heads.iter().any(|head| line.starts_with(head))
}

/// Not what curl says of its progress, which it does though it was told to be silent.
fn counted(line: &str) -> bool {
    line.contains("HTTP/") || line.contains("x-served-by")
}

/// From lines of `uniq -c`: how often there was one with these words.
fn count_of(text: &str, words: &str) -> usize {
    let counts = text.lines().filter(|line| line.contains(words));
    counts
        .filter_map(|line| line.split_whitespace().next()?.parse::<usize>().ok())
        .sum()
}

/// Of `packets 12 bytes 720`.
fn packets(listing: &str) -> u64 {
    let after = listing.split_once("packets ").map_or("", |(_, rest)| rest);
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

fn now_ms() -> u128 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_from_what_commands_print() {
        let text = "    298 HTTP/2 200 \n      2 HTTP/2 503 \n    150 x-served-by: web-1\n";
        assert_eq!(count_of(text, " 200"), 298);
        assert_eq!(count_of(text, "web-1"), 150);
        assert_eq!(count_of(text, "web-2"), 0);
        let listing =
            "table inet fw {\n\tcounter out_no_flow {\n\t\tpackets 12 bytes 720\n\t}\n}\n";
        assert_eq!(packets(listing), 12);
    }
}
