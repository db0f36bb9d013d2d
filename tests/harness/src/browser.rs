//! Headless Chromium, driven over WebDriver: for what only a browser can tell of a page.
//!
//! It trusts the stack's authority by a profile of its own, made with `certutil` and thrown away; no certificate error is ignored. The
//! client is small and speaks W3C WebDriver to `chromedriver`, and the DevTools protocol through it for what WebDriver has no word for:
//! the colour scheme, the window's width, scripts off.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;
use tokio::time::timeout;

use crate::compose::root;
use crate::{run, wait_for};

/// The programs that are needed, and the package of Debian that has each.
const NEEDED: [(&str, &str); 3] = [
    ("chromium", "chromium"),
    ("chromedriver", "chromium-driver"),
    ("certutil", "libnss3-tools"),
];

/// What WebDriver calls an element's reference.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// What Chromium says when an address of this machine came or went, as with every container that starts beside it, and it dropped its
/// connections for that.
const NETWORK_CHANGED: &str = "ERR_NETWORK_CHANGED";

/// The longest that one command may take: the first one starts a browser, on a machine that may be busy.
const COMMAND_MAX: Duration = Duration::from_secs(60);

/// How a page is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// The window's width in CSS pixels.
    pub width: u32,
    /// Whether the visitor prefers the dark.
    pub dark: bool,
}

/// A browser with one window. Closed when dropped.
#[derive(Debug)]
pub struct Browser {
    http: Client,
    session: String,
    driver: Child,
    _home: TempDir,
}

/// An element of the page that is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element(String);

impl Browser {
    /// Starts one that trusts the authority in this file, beside those that browsers trust anyway.
    ///
    /// # Errors
    /// What is missing and cannot be installed, or does not start.
    pub async fn start(ca: &Path) -> Result<Self> {
        install()?;
        let _ = rustls::crypto::ring::default_provider().install_default();
        let home = run::directory("browser")?;
        trust(home.path(), ca)?;
        let (driver, port) = driver(home.path()).await?;
        let http = Client::builder().timeout(COMMAND_MAX).build()?;
        let mut browser = Self {
            session: format!("http://127.0.0.1:{port}/session"),
            http,
            driver,
            _home: home,
        };
        let mut arguments = vec!["--headless=new", "--disable-gpu", "--hide-scrollbars"];
        // Chromium's own sandbox needs a user who is not root, and memory that containers do not share out.
        if nix::unistd::geteuid().is_root() {
            arguments.extend(["--no-sandbox", "--disable-dev-shm-usage"]);
        }
        let capabilities = json!({"capabilities": {"alwaysMatch": {
            "acceptInsecureCerts": false,
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let session = browser.call(Method::POST, "", &capabilities).await?;
        let id = session["sessionId"]
            .as_str()
            .context("a session has an id")?;
        browser.session = format!("{}/{id}", browser.session);
        Ok(browser)
    }

    /// Shows what comes in a window of this width, in this colour scheme.
    ///
    /// # Errors
    /// When the browser refuses, as in everything below.
    pub async fn look(&self, look: Look) -> Result<()> {
        let size =
            json!({"width": look.width, "height": 800, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", &size)
            .await?;
        let scheme = if look.dark { "dark" } else { "light" };
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", &media)
            .await
            .map(drop)
    }

    /// Whether the scripts of pages run.
    ///
    /// # Errors
    /// As above.
    pub async fn scripts(&self, run: bool) -> Result<()> {
        let off = json!({"value": !run});
        self.devtools("Emulation.setScriptExecutionDisabled", &off)
            .await
            .map(drop)
    }

    /// Goes to a page and waits until it is loaded.
    ///
    /// # Errors
    /// When it cannot be had; a certificate that is not trusted is such an error.
    pub async fn open(&self, url: &str) -> Result<()> {
        let body = json!({"url": url});
        let mut opened = self.call(Method::POST, "/url", &body).await;
        while is_of_the_machine(&opened) {
            opened = self.call(Method::POST, "/url", &body).await;
        }
        opened.with_context(|| format!("open {url}")).map(drop)
    }

    /// Where it is.
    ///
    /// # Errors
    /// As above.
    pub async fn url(&self) -> Result<String> {
        self.read("/url").await
    }

    /// The page's title.
    ///
    /// # Errors
    /// As above.
    pub async fn title(&self) -> Result<String> {
        self.read("/title").await
    }

    /// The first element that a CSS selector finds.
    ///
    /// # Errors
    /// When there is none: with the page's text.
    pub async fn find(&self, selector: &str) -> Result<Element> {
        let by = json!({"using": "css selector", "value": selector});
        match self.call(Method::POST, "/element", &by).await {
            Ok(found) => element(&found),
            Err(error) => {
                let page = self.text("body").await.unwrap_or_default();
                Err(error.context(format!("no {selector} on this page:\n{page}")))
            }
        }
    }

    /// All of them.
    ///
    /// # Errors
    /// As above.
    pub async fn find_all(&self, selector: &str) -> Result<Vec<Element>> {
        let by = json!({"using": "css selector", "value": selector});
        let found = self.call(Method::POST, "/elements", &by).await?;
        found
            .as_array()
            .context("a list")?
            .iter()
            .map(element)
            .collect()
    }

    /// The text of the first element that a selector finds, as it is shown.
    ///
    /// # Errors
    /// When there is none.
    pub async fn text(&self, selector: &str) -> Result<String> {
        let by = json!({"using": "css selector", "value": selector});
        let found = self.call(Method::POST, "/element", &by).await?;
        let Element(id) = element(&found)?;
        self.read(&format!("/element/{id}/text")).await
    }

    /// A property of an element, such as `value`; empty where there is none.
    ///
    /// # Errors
    /// As above.
    pub async fn property(&self, Element(id): &Element, name: &str) -> Result<String> {
        self.read(&format!("/element/{id}/property/{name}")).await
    }

    /// An attribute of an element; empty where there is none.
    ///
    /// # Errors
    /// As above.
    pub async fn attribute(&self, Element(id): &Element, name: &str) -> Result<String> {
        self.read(&format!("/element/{id}/attribute/{name}")).await
    }

    /// Clicks it, as a person would: what is covered or out of sight cannot be clicked. Waits for nothing: see [`Browser::follow`].
    ///
    /// # Errors
    /// As above.
    pub async fn click(&self, selector: &str) -> Result<()> {
        let Element(id) = self.find(selector).await?;
        self.call(Method::POST, &format!("/element/{id}/click"), &json!({}))
            .await
            .with_context(|| format!("click {selector}"))
            .map(drop)
    }

    /// Clicks what leads to another page, and waits until that one is there in place of this one. WebDriver's own click waits too, but
    /// only for what has begun when it looks: on a busy machine that can be nothing yet.
    ///
    /// # Errors
    /// As above; and when this page stays.
    pub async fn follow(&self, selector: &str) -> Result<()> {
        let this = self.document().await?;
        self.click(selector).await?;
        wait_for(
            &format!("{selector} leads to another page"),
            COMMAND_MAX,
            async || {
                // In one question, for between two the page may change.
                let loaded = "document.readyState == 'complete' ? performance.timeOrigin : null";
                let there = self.evaluate(loaded).await.ok()?;
                (there.is_number() && there != this).then_some(())
            },
        )
        .await?;
        let protocol = self.evaluate("location.protocol").await?;
        ensure!(
            protocol != "chrome-error:",
            "{selector} leads to an error of the browser's own"
        );
        Ok(())
    }

    /// What tells this document from the next one at the same place: when it began, in milliseconds with a fraction.
    async fn document(&self) -> Result<Value> {
        self.evaluate("performance.timeOrigin").await
    }

    /// Types into a field that a selector finds, in place of what is there.
    ///
    /// # Errors
    /// As above.
    pub async fn fill(&self, selector: &str, text: &str) -> Result<()> {
        let Element(id) = self.find(selector).await?;
        self.call(Method::POST, &format!("/element/{id}/clear"), &json!({}))
            .await?;
        self.call(
            Method::POST,
            &format!("/element/{id}/value"),
            &json!({"text": text}),
        )
        .await
        .map(drop)
    }

    /// Chooses the option of this value in a `select`.
    ///
    /// # Errors
    /// As above.
    pub async fn choose(&self, selector: &str, value: &str) -> Result<()> {
        self.click(&format!("{selector} option[value=\"{value}\"]"))
            .await
    }

    /// Presses a key, such as `\u{E004}` for Tab.
    ///
    /// # Errors
    /// As above.
    pub async fn press(&self, key: char) -> Result<()> {
        let actions = json!({"actions": [{"type": "key", "id": "keys", "actions": [
            {"type": "keyDown", "value": key.to_string()},
            {"type": "keyUp", "value": key.to_string()},
        ]}]});
        self.call(Method::POST, "/actions", &actions)
            .await
            .map(drop)
    }

    /// What an expression of JavaScript gives. It is the test's own: the page's scripts have no part in it.
    ///
    /// # Errors
    /// As above.
    pub async fn evaluate(&self, expression: &str) -> Result<Value> {
        let script = json!({"script": format!("return ({expression});"), "args": []});
        self.call(Method::POST, "/execute/sync", &script).await
    }

    /// The whole page as a PNG, below the window's edge too.
    ///
    /// # Errors
    /// As above.
    pub async fn screenshot(&self) -> Result<Vec<u8>> {
        let metrics = self.devtools("Page.getLayoutMetrics", &json!({})).await?;
        let size = &metrics["cssContentSize"];
        let whole = json!({"format": "png", "captureBeyondViewport": true, "clip": {
            "x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1,
        }});
        let shot = self.devtools("Page.captureScreenshot", &whole).await?;
        let text = shot["data"].as_str().context("a picture")?;
        Ok(base64::Engine::decode(
            &base64::engine::general_purpose::STANDARD,
            text,
        )?)
    }

    /// What the browser has complained of since this was asked last: errors of scripts, what could not be loaded, what a policy forbade.
    ///
    /// # Errors
    /// As above.
    pub async fn complaints(&self) -> Result<Vec<String>> {
        let log = self
            .call(Method::POST, "/se/log", &json!({"type": "browser"}))
            .await?;
        let entries = log.as_array().context("a list")?.iter();
        let bad =
            entries.filter(|entry| matches!(entry["level"].as_str(), Some("SEVERE" | "WARNING")));
        let messages = bad.map(|entry| entry["message"].to_string());
        Ok(messages
            .filter(|message| !message.contains(NETWORK_CHANGED))
            .collect())
    }

    async fn devtools(&self, command: &str, parameters: &Value) -> Result<Value> {
        let body = json!({"cmd": command, "params": parameters});
        self.call(Method::POST, "/goog/cdp/execute", &body).await
    }

    async fn read(&self, path: &str) -> Result<String> {
        let value = self.call(Method::GET, path, &Value::Null).await?;
        Ok(match value {
            Value::String(text) => text,
            Value::Null => String::new(),
            other => other.to_string(),
        })
    }

    async fn call(&self, method: Method, path: &str, body: &Value) -> Result<Value> {
        let mut request = self
            .http
            .request(method.clone(), format!("{}{path}", self.session));
        if !body.is_null() {
            request = request.json(body);
        }
        let answer = request.send().await?;
        let status = answer.status();
        let mut answer: Value = answer.json().await?;
        let value = answer["value"].take();
        if !status.is_success() {
            bail!("{method} {path}: {}: {}", value["error"], value["message"]);
        }
        Ok(value)
    }
}

impl Drop for Browser {
    /// The driver closes its browser when it is asked to end.
    fn drop(&mut self) {
        let Some(pid) = self.driver.id().and_then(|pid| i32::try_from(pid).ok()) else {
            return;
        };
        // Both are in a process group of their own.
        let group = nix::unistd::Pid::from_raw(pid);
        let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
    }
}

fn element(found: &Value) -> Result<Element> {
    let id = found[ELEMENT].as_str().context("an element")?;
    Ok(Element(id.to_owned()))
}

/// Installs what is missing, where that can be done. A package manager waits for the disk with every file that it writes, and so then does
/// every commit: best before there is a stack.
///
/// # Errors
/// What is missing and cannot be installed.
pub fn install() -> Result<()> {
    // The tests that want a browser begin together: one installs, the others find it done.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock();
    let there = |program: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
    };
    let missing: Vec<_> = NEEDED
        .iter()
        .filter(|(program, _)| !there(program))
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let status = Command::new(root().join("docker/install"))
        .args(&missing)
        .arg("fonts-liberation")
        .status()?;
    ensure!(
        status.success(),
        "a browser for the tests needs {}: install it and try again",
        missing.join(", ")
    );
    Ok(())
}

/// Whether it failed for what went on on this machine, not in the page.
fn is_of_the_machine<T>(answer: &Result<T>) -> bool {
    matches!(answer, Err(error) if format!("{error:#}").contains(NETWORK_CHANGED))
}

/// Makes the certificate store of a home directory, with this authority in it.
fn trust(home: &Path, ca: &Path) -> Result<()> {
    // Chromium has moved from the first to the second.
    for store in [".pki/nssdb", ".local/share/pki/nssdb"] {
        let store = home.join(store);
        std::fs::create_dir_all(&store)?;
        let store = format!("sql:{}", store.display());
        for arguments in [
            vec!["-N", "-d", &store, "--empty-password"],
            vec![
                "-A",
                "-d",
                &store,
                "-t",
                "C,,",
                "-n",
                "holdfast",
                "-i",
                &ca.to_string_lossy(),
            ],
        ] {
            let output = Command::new("certutil").args(&arguments).output()?;
            ensure!(
                output.status.success(),
                "certutil {}: {}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
    Ok(())
}

/// Starts chromedriver on a port that it finds itself.
async fn driver(home: &Path) -> Result<(Child, u16)> {
    let mut child = tokio::process::Command::new("chromedriver")
        .arg("--port=0")
        .env("HOME", home)
        .env_remove("XDG_DATA_HOME")
        .env("XDG_CONFIG_HOME", home.join(".config"))
        .env("XDG_CACHE_HOME", home.join(".cache"))
        .env("TMPDIR", home)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .context("start chromedriver")?;
    let out = child.stdout.take().context("its output is piped")?;
    let mut lines = BufReader::new(out).lines();
    let port = timeout(COMMAND_MAX, async {
        while let Some(line) = lines.next_line().await? {
            if let Some((_, port)) = line.split_once("successfully on port ") {
                return Ok(port.trim_end_matches('.').parse()?);
            }
        }
        bail!("chromedriver ended before it listened")
    });
    let port = port.await.context("chromedriver does not say its port")??;
    // It goes on writing now and then; nobody has to read it, but the pipe must not be full.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Ok((child, port))
}
