//! Who a router talks to, and as whom: only over TLS, only to a server of our authority and of the name that was asked for, with a client
//! certificate; and certificates and passwords that change are used without a restart.

mod router_common;

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use harness::{Account, MysqlImage, Pair, Server, wait_for, wait_until};
use pki::{Authority, Leaf, Request, Usage};
use router::{CausalKey, Credentials, Password, Router, RouterConfig, RouterError};
use router_common::{CAUSAL_KEY, SOON, Web, config, credentials, get, kind, ours, pair, same, set};
use sqlx::AssertSqlSafe;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Below the directory that a server has its certificates in.
const IN_CONTAINER: &str = "/run/holdfast/pki";
const REPLICA_DOWN: &str = "primary;reason=replica-down";

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_prove_who_it_is_gets_nothing() -> Result<()> {
    let pair = pair().await?;
    let authority = Authority::create(&[])?;
    a_server_without_tls_hears_not_a_word(&pair)
        .await
        .context("no TLS")?;
    a_client_without_its_certificate_is_told_so(&pair, &authority)
        .await
        .context("client certificates")?;
    a_certificate_has_to_be_of_our_authority_and_of_that_name(&pair, &authority)
        .await
        .context("server certificates")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_renewed_is_used_at_the_next_login_and_nobody_is_cut_off() -> Result<()> {
    let pair = pair().await?;
    new_files_are_used_by_new_connections(&pair)
        .await
        .context("certificates")?;
    no_connection_outlives_its_bound(&pair)
        .await
        .context("max_lifetime_ms")?;
    a_new_password_is_used_at_the_next_login(&pair)
        .await
        .context("passwords")
}

/// The files of a client, which can be exchanged.
struct Files {
    directory: TempDir,
}

impl Files {
    /// The same as the web servers'.
    fn of(pair: &Pair, consumer: &str) -> Result<Self> {
        let files = Self {
            directory: tempfile::tempdir()?,
        };
        files.take_from(pair, consumer)?;
        Ok(files)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> Result<()> {
        // Nobody reads half of it.
        let new = self.path(&format!("{name}.new"));
        fs::write(&new, text)?;
        Ok(fs::rename(new, self.path(name))?)
    }

    /// The certificate of another consumer.
    fn take_from(&self, pair: &Pair, consumer: &str) -> Result<()> {
        let identity = pair.identities().of(consumer).join("current");
        for name in ["ca.crt", "tls.crt", "tls.key"] {
            self.write(name, fs::read(identity.join(name))?)?;
        }
        Ok(())
    }

    fn take(&self, leaf: &Leaf) -> Result<()> {
        self.write("tls.crt", &leaf.cert_pem)?;
        self.write("tls.key", &leaf.key_pem)
    }

    /// With the password in a file beside them.
    fn credentials(&self, pair: &Pair) -> Result<Credentials> {
        self.write("password", pair.identities().password("app")?)?;
        let password = Password::File(self.path("password"));
        let key = CausalKey::new(CAUSAL_KEY);
        Ok(Credentials::new(
            "app",
            password,
            self.directory.path(),
            key,
        ))
    }
}

fn leaf(authority: &Authority, role: &str, names: &[&str], days: i64) -> Result<Leaf> {
    Ok(authority.issue(&Request {
        role: role.to_owned(),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        usage: vec![Usage::Server, Usage::Client],
        days,
    })?)
}

/// Why a server is away, as the router says it; only once it is known.
async fn why_away(web: &Web, server: &str) -> Result<String> {
    wait_for("it is known why", SOON, async || {
        let health = web.router.health();
        let of = health
            .servers
            .into_iter()
            .find(|known| known.name == server)?;
        let is_late = of.error.starts_with("no answer within");
        (!of.up && !is_late && of.error != "not asked yet").then_some(of.error)
    })
    .await
    .with_context(|| format!("{:?}", web.router.health()))
}

/// What is refused is refused in time, with a reason that has this word.
async fn writes_are_refused(web: &Web, word: &str) -> Result<()> {
    let began = Instant::now();
    let refused = web.session().begin().await.err().context("it has begun")?;
    same(&kind(&refused), &"PrimaryUnavailable".to_owned())?;
    ensure!(
        refused.to_string().contains(word),
        "{refused}: no word of {word}"
    );
    same(
        &ours(set(&web.session(), 0, 9).await)?,
        &"PrimaryUnavailable".to_owned(),
    )?;
    ensure!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    Ok(())
}

/// A wire on which somebody takes "I speak TLS" out of the server's greeting.
async fn strip(server: SocketAddr) -> Result<(u16, Arc<AtomicUsize>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let (heard, counted) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (bytes, greetings) = (heard.clone(), counted.clone());
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (bytes, greetings) = (bytes.clone(), greetings.clone());
            tokio::spawn(async move {
                let mut server = TcpStream::connect(server).await?;
                let mut greeting = vec![0; 1024];
                let length = server.read(&mut greeting).await?;
                // Header, protocol, version, connection, eight bytes of salt, a zero; then the low flags, little-endian.
                let version = greeting[5..]
                    .iter()
                    .position(|byte| *byte == 0)
                    .unwrap_or(0);
                let flags = 5 + version + 1 + 4 + 8 + 1;
                // CLIENT_SSL is 0x0800.
                greeting[flags + 1] &= !0x08;
                client.write_all(&greeting[..length]).await?;
                greetings.fetch_add(1, Ordering::AcqRel);
                let mut said = Vec::new();
                client.read_to_end(&mut said).await?;
                bytes.fetch_add(said.len(), Ordering::AcqRel);
                std::io::Result::Ok(())
            });
        }
    });
    wait_until("it listens", SOON, async || {
        TcpStream::connect(("127.0.0.1", port)).await.is_ok()
    })
    .await?;
    let before = counted.clone();
    wait_until("a first greeting", SOON, async || {
        before.load(Ordering::Acquire) > 0
    })
    .await?;
    heard.store(0, Ordering::Release);
    Ok((port, heard))
}

async fn a_server_without_tls_hears_not_a_word(pair: &Pair) -> Result<()> {
    let (port, heard) = strip(([127, 0, 0, 1], pair.mysql_1().port()).into()).await?;
    let mut stripped = config(pair);
    stripped.servers[0].port = port;
    let files = Files::of(pair, "web-1")?;
    let web = Web::connect_with(stripped, &files.credentials(pair)?)?;
    let why = why_away(&web, "mysql-1").await?;
    ensure!(why.contains("TLS"), "{why}");
    writes_are_refused(&web, "TLS").await?;
    // The replica is reached as it should be.
    wait_until("the replica is known", SOON, async || {
        web.router.health().servers[1].up
    })
    .await?;
    web.router.close().await;
    same(&heard.load(Ordering::Acquire), &0).context("said in plain text")
}

async fn a_client_without_its_certificate_is_told_so(
    pair: &Pair,
    authority: &Authority,
) -> Result<()> {
    // Of another role: the server knows it, and the account is not for it.
    let files = Files::of(pair, "prometheus")?;
    let web = Web::connect_with(config(pair), &files.credentials(pair)?)?;
    let why = why_away(&web, "mysql-1").await?;
    ensure!(
        why.contains("1045") && why.contains("Access denied"),
        "{why}"
    );
    writes_are_refused(&web, "Access denied").await?;
    let read = ours(get(&web.session(), 0).await)?;
    ensure!(
        ["NoServer", "PrimaryUnavailable"].contains(&read.as_str()),
        "{read}"
    );

    // Of another authority: the server breaks off.
    files.take(&leaf(authority, "web", &["web-1"], 1)?)?;
    wait_until("the server's refusal is known", SOON, async || {
        let health = web.router.health();
        health
            .servers
            .iter()
            .all(|server| !server.up && !server.error.contains("1045"))
    })
    .await?;
    writes_are_refused(&web, "mysql-1").await?;

    // None at all.
    fs::remove_file(files.path("tls.crt"))?;
    wait_until("it is known that it is missing", SOON, async || {
        let health = web.router.health();
        health
            .servers
            .iter()
            .all(|server| server.error.contains("No such file"))
    })
    .await
    .with_context(|| format!("{:?}", web.router.health()))?;
    writes_are_refused(&web, "No such file").await?;
    let refused = web
        .session()
        .begin()
        .await
        .err()
        .context("begun")?
        .to_string();
    ensure!(refused.contains("tls.crt"), "which file? {refused}");

    // And all is well with the right one.
    files.take_from(pair, "web-2")?;
    web.is_whole().await?;
    set(&web.session(), 0, 0).await?;
    web.router.close().await;
    Ok(())
}

/// Makes a server show this certificate to whoever comes from now on.
async fn show(server: &Server, pair: &Pair, leaf: Option<&Leaf>, trusted: &str) -> Result<()> {
    let mut directory = "current".to_owned();
    if let Some(leaf) = leaf {
        let files = pair.identities().of(server.name()).join("other");
        fs::create_dir_all(&files)?;
        fs::write(files.join("tls.crt"), &leaf.cert_pem)?;
        fs::write(files.join("tls.key"), &leaf.key_pem)?;
        // It shows nothing that it does not believe itself.
        fs::write(files.join("ca.crt"), trusted)?;
        MysqlImage::get().await?.give(&files)?;
        directory = "other".to_owned();
    }
    // On a connection from before: who makes a new one would be refused.
    let paths = format!("{IN_CONTAINER}/{directory}");
    let reload = format!(
        "SET GLOBAL ssl_ca = '{paths}/ca.crt'; SET GLOBAL ssl_cert = '{paths}/tls.crt'; SET GLOBAL ssl_key = '{paths}/tls.key'; ALTER INSTANCE RELOAD TLS"
    );
    let mut arbiter = ARBITER.lock().await;
    let arbiter = match &mut *arbiter {
        Some(arbiter) => arbiter,
        none => none.insert(server.connect(Account::Arbiter).await?),
    };
    sqlx::raw_sql(AssertSqlSafe(reload))
        .execute(arbiter)
        .await?;
    Ok(())
}

static ARBITER: tokio::sync::Mutex<Option<sqlx::MySqlConnection>> =
    tokio::sync::Mutex::const_new(None);

async fn a_certificate_has_to_be_of_our_authority_and_of_that_name(
    pair: &Pair,
    authority: &Authority,
) -> Result<()> {
    // One look that comes late would make it log in anew.
    let patient = RouterConfig {
        probe_timeout_ms: 10_000,
        max_lag_ms: 10_000,
        ..config(pair)
    };
    let old = Web::start(pair, patient).await?;
    get(&old.session(), 0).await?;
    let ours = fs::read_to_string(pair.identities().of("web-1").join("current/ca.crt"))?;
    // Who trusts both, so that only the rest can be wrong.
    let files = Files::of(pair, "web-1")?;
    let trusted = format!("{ours}\n{}", authority.cert_pem());
    files.write("ca.crt", &trusted)?;
    let both = files.credentials(pair)?;
    let strict = credentials(pair, Account::App)?;

    let good = leaf(authority, "mysql", &["mysql-2", "127.0.0.1"], 1)?;
    show(pair.mysql_2(), pair, Some(&good), &trusted)
        .await
        .context("good")?;
    let trusting = Web::connect_with(config(pair), &both)?;
    trusting.is_whole().await.context("the test's own means")?;
    trusting.router.close().await;
    let another_authority = Web::connect_with(config(pair), &strict)?;
    let why = why_away(&another_authority, "mysql-2").await?;
    ensure!(why.to_lowercase().contains("certificate"), "{why}");

    let another_name = leaf(authority, "mysql", &["mysql-1"], 1)?;
    show(pair.mysql_2(), pair, Some(&another_name), &trusted)
        .await
        .context("another name")?;
    let named = Web::connect_with(config(pair), &both)?;
    let why = why_away(&named, "mysql-2").await?;
    ensure!(why.to_lowercase().contains("name"), "{why}");

    for web in [&another_authority, &named] {
        web.router.wait_for_primary(SOON).await?;
        same(&web.goes("SELECT 1"), &REPLICA_DOWN.to_owned())?;
        set(&web.session(), 0, 0).await?;
        web.router.close().await;
    }
    // Whoever was connected is connected.
    same(&old.goes("SELECT 1"), &"replica;reason=fresh".to_owned())?;
    get(&old.session(), 0).await?;
    show(pair.mysql_2(), pair, None, "").await?;
    *ARBITER.lock().await = None;
    old.router.close().await;
    Ok(())
}

/// The connections of the web servers' account at a server: those for statements, and all.
async fn connections(server: &Server) -> Result<(BTreeSet<i64>, BTreeSet<i64>)> {
    let mut arbiter = server.connect(Account::Arbiter).await?;
    let all: Vec<(i64, Option<String>)> = sqlx::query_as(
        "SELECT CAST(PROCESSLIST_ID AS SIGNED), PROCESSLIST_DB FROM performance_schema.threads WHERE PROCESSLIST_USER = 'app'",
    )
    .fetch_all(&mut arbiter)
    .await?;
    let of_statements = all.iter().filter(|(_, database)| database.is_some());
    Ok((
        of_statements.map(|(id, _)| *id).collect(),
        all.iter().map(|(id, _)| *id).collect(),
    ))
}

/// Opens so many connections to the primary at once, and gives them back.
async fn open(router: &Router, count: usize) -> Result<(), RouterError> {
    let session = router.session(None);
    let mut held = Vec::new();
    for _ in 0..count {
        held.push(session.begin().await?);
    }
    for transaction in held {
        transaction.rollback().await?;
    }
    Ok(())
}

/// What a login without a good certificate or password ends in.
fn is_denied(refused: Result<(), RouterError>) -> Result<()> {
    let refused = refused.err().context("it logged in")?.to_string();
    ensure!(refused.contains("Access denied"), "{refused}");
    Ok(())
}

async fn new_files_are_used_by_new_connections(pair: &Pair) -> Result<()> {
    let files = Files::of(pair, "web-1")?;
    let web = Web::connect_with(config(pair), &files.credentials(pair)?)?;
    web.is_whole().await?;
    open(&web.router, 2).await?;
    let (before, _) = connections(pair.mysql_1()).await?;
    same(&before.len(), &2)?;

    // Files of another role: the next login shows that they are used.
    files.take_from(pair, "prometheus")?;
    open(&web.router, 2).await.context("those that are there")?;
    is_denied(open(&web.router, 3).await)?;
    let (now, _) = connections(pair.mysql_1()).await?;
    ensure!(before.is_subset(&now), "{before:?} were there, {now:?} are");
    // Nobody takes the server for away because of that.
    ensure!(web.router.health().writable);
    set(&web.session(), 1, 1).await?;

    // The renewed ones, which another process wrote.
    files.take_from(pair, "web-2")?;
    open(&web.router, 4).await?;
    let (now, _) = connections(pair.mysql_1()).await?;
    ensure!(before.is_subset(&now), "{before:?} were there, {now:?} are");
    same(&now.len(), &4)?;
    web.router.close().await;
    Ok(())
}

/// So that a renewed certificate is used everywhere before the old one ends.
async fn no_connection_outlives_its_bound(pair: &Pair) -> Result<()> {
    let brief = RouterConfig {
        max_lifetime_ms: 1500,
        probe_timeout_ms: 5000,
        ..config(pair)
    };
    let web = Web::start(pair, brief).await?;
    open(&web.router, 3).await?;
    let (_, before) = connections(pair.mysql_1()).await?;
    let stop = std::sync::atomic::AtomicBool::new(false);
    let failures = AtomicUsize::new(0);
    let traffic = async {
        while !stop.load(Ordering::Acquire) {
            if set(&web.session(), 2, 1).await.is_err() || get(&web.session(), 2).await.is_err() {
                failures.fetch_add(1, Ordering::AcqRel);
            }
        }
        anyhow::Ok(())
    };
    let watching = async {
        let renewed = wait_until("every connection is a new one", SOON, async || {
            connections(pair.mysql_1())
                .await
                .is_ok_and(|(_, now)| before.is_disjoint(&now) && !now.is_empty())
        })
        .await;
        stop.store(true, Ordering::Release);
        let (_, now) = connections(pair.mysql_1()).await?;
        let left: Vec<_> = before.intersection(&now).collect();
        renewed.with_context(|| format!("of {before:?} are left {left:?}"))
    };
    let (traffic, watching) = tokio::join!(traffic, watching);
    traffic?;
    watching?;
    same(&failures.load(Ordering::Acquire), &0).context("statements failed")?;
    web.router.close().await;
    Ok(())
}

async fn a_new_password_is_used_at_the_next_login(pair: &Pair) -> Result<()> {
    let files = Files::of(pair, "web-1")?;
    let web = Web::connect_with(config(pair), &files.credentials(pair)?)?;
    web.is_whole().await?;
    open(&web.router, 2).await?;
    begin_foreign(&web, 1).await?;
    let (before, all) = connections(pair.mysql_1()).await?;

    // Changed on the servers first: who is connected goes on, who logs in is refused, and it is said why.
    let mut app = pair.mysql_1().connect(Account::App).await?;
    sqlx::raw_sql("ALTER USER USER() IDENTIFIED BY 'another password, of the same account'")
        .execute(&mut app)
        .await?;
    pair.caught_up(pair.mysql_1(), pair.mysql_2()).await?;
    open(&web.router, 2).await?;
    set(&web.session(), 3, 1).await?;
    is_denied(open(&web.router, 4).await)?;
    let late = Web::connect_with(config(pair), &files.credentials(pair)?)?;
    let why = why_away(&late, "mysql-1").await?;
    ensure!(why.contains("Access denied"), "{why}");
    writes_are_refused(&late, "Access denied").await?;

    // Then in the file; with a line break, as editors leave one.
    files.write("password", "another password, of the same account\n")?;
    open(&web.router, 4).await?;
    late.is_whole().await.context("it recovers by itself")?;
    late.router.close().await;
    let (now, now_all) = connections(pair.mysql_1()).await?;
    ensure!(before.is_subset(&now), "{before:?} were there, {now:?} are");
    ensure!(
        all.is_subset(&now_all),
        "{all:?} were there, {now_all:?} are"
    );
    begin_foreign(&web, 3)
        .await
        .context("sqlx's own transactions")?;

    // The other way round: the file has one that the servers do not know, or there is no file.
    files.write("password", "a third one")?;
    is_denied(open(&web.router, 6).await)?;
    fs::remove_file(files.path("password"))?;
    let refused = open(&web.router, 6)
        .await
        .err()
        .context("logged in")?
        .to_string();
    ensure!(refused.contains("password's file"), "{refused}");
    wait_until("they are given back", SOON, async || {
        web.metric("router_in_flight", &["mysql-1"])
            .is_ok_and(|held| held == 0.0)
    })
    .await?;
    open(&web.router, 2).await.context("those that are there")?;
    let without = Files::of(pair, "web-1")?;
    let credentials = without.credentials(pair)?;
    fs::remove_file(without.path("password"))?;
    let blind = Web::connect_with(config(pair), &credentials)?;
    let why = why_away(&blind, "mysql-1").await?;
    ensure!(
        why.contains("password's file") && why.contains(path_text(&without.path("password"))),
        "{why}"
    );
    writes_are_refused(&blind, "password's file").await?;
    blind.router.close().await;
    web.router.close().await;
    Ok(())
}

fn path_text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

/// So many transactions of sqlx's own at once.
async fn begin_foreign(web: &Web, count: usize) -> Result<()> {
    let session = web.session();
    let mut held = Vec::new();
    for _ in 0..count {
        held.push(sqlx::Acquire::begin(&session).await?);
    }
    for transaction in held {
        transaction.rollback().await?;
    }
    Ok(())
}
