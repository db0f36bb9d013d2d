//! The pages, as somebody with a browser and no JavaScript uses them: by what is on the page, never by what is known of the server.

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use anyhow::{Context, Result, ensure};
use harness::compose::Stack;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::Value;

use crate::edge::header;

/// How often a form is sent while the database is not available for a moment.
const TRIES: usize = 10;

/// Keeps cookies, follows the redirect after a form, and reads forms.
struct Browser {
    http: Client,
    base: String,
    cookies: Mutex<BTreeMap<String, String>>,
}

/// What it shows.
struct Page {
    path: String,
    status: StatusCode,
    /// Nothing is wrong with what was sent: it is to be sent again later.
    later: bool,
    text: String,
}

impl Browser {
    fn new(stack: &Stack) -> Result<Self> {
        Ok(Self {
            http: stack.client()?,
            base: stack.url(""),
            cookies: Mutex::default(),
        })
    }

    async fn send(&self, path: &str, request: RequestBuilder) -> Result<Page> {
        let cookies: Vec<_> = {
            let cookies = self.cookies.lock().expect("no test panics with it");
            let pairs = cookies.iter();
            pairs
                .map(|(name, value)| format!("{name}={value}"))
                .collect()
        };
        let mut request = request;
        if !cookies.is_empty() {
            request = request.header("cookie", cookies.join("; "));
        }
        let answer = request.send().await?;
        for cookie in answer.headers().get_all("set-cookie") {
            let cookie = cookie.to_str()?;
            ensure!(
                cookie.contains("; Secure") && cookie.contains("; HttpOnly"),
                "{cookie}"
            );
            let (name, rest) = cookie.split_once('=').context("a cookie has a name")?;
            let value = rest.split(';').next().unwrap_or_default().to_owned();
            let mut cookies = self.cookies.lock().expect("no test panics with it");
            if cookie.contains("Max-Age=0") {
                cookies.remove(name);
            } else {
                cookies.insert(name.to_owned(), value);
            }
        }
        let status = answer.status();
        if status == StatusCode::SEE_OTHER {
            let to = header(&answer, "location").to_owned();
            return Box::pin(self.open(&to)).await;
        }
        let policy = header(&answer, "content-security-policy");
        ensure!(
            policy.contains("default-src 'none'") && !policy.contains("unsafe"),
            "{path}: the policy is {policy:?}"
        );
        ensure!(header(&answer, "cache-control") == "no-store", "{answer:?}");
        let later = !header(&answer, "retry-after").is_empty();
        let text = answer.text().await?;
        ensure!(!text.contains("<script"), "{path} has a script:\n{text}");
        Ok(Page {
            path: path.to_owned(),
            status,
            later,
            text,
        })
    }

    async fn open(&self, path: &str) -> Result<Page> {
        let request = self.http.get(format!("{}{path}", self.base));
        self.send(path, request.header("accept", "text/html")).await
    }

    /// Fills the form with this action in, and sends it; hidden fields go along as they are. What comes back to be sent later is, with its key.
    async fn submit(&self, page: &Page, action: &str, fields: &[(&str, &str)]) -> Result<Page> {
        let mut tries = 0;
        loop {
            tries += 1;
            let request = self.form(page, action, fields)?;
            let request = request.header("sec-fetch-site", "same-origin");
            let shown = self.send(action, request).await?;
            if !shown.later || tries == TRIES {
                return Ok(shown);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    fn form(&self, page: &Page, action: &str, fields: &[(&str, &str)]) -> Result<RequestBuilder> {
        let mut body = form_urlencoded::Serializer::new(String::new());
        if action != "/owners" {
            body.append_pair("key", &page.hidden_key(action)?);
        }
        body.extend_pairs(fields);
        let request = self.http.post(format!("{}{action}", self.base));
        let kind = "application/x-www-form-urlencoded";
        Ok(request.header("content-type", kind).body(body.finish()))
    }
}

impl Page {
    /// The form with this action.
    fn form(&self, action: &str) -> Result<&str> {
        let begin = format!("<form method=\"post\" action=\"{action}\"");
        let after = self.text.split_once(&begin).map(|(_, after)| after);
        let form = after.and_then(|after| after.split_once("</form>"));
        let (form, _) =
            form.with_context(|| format!("no form {action} on {}:\n{}", self.path, self.text))?;
        Ok(form)
    }

    fn hidden_key(&self, action: &str) -> Result<String> {
        let form = self.form(action)?;
        let after = form
            .split_once("name=\"key\" value=\"")
            .map(|(_, after)| after);
        let key = after.and_then(|after| after.split_once('"'));
        Ok(key.context("a form has a key")?.0.to_owned())
    }

    fn shows(&self, text: &str) -> Result<()> {
        ensure!(
            self.text.contains(text),
            "{text:?} is not on {}:\n{}",
            self.path,
            self.text
        );
        Ok(())
    }

    /// The account that the page is about.
    fn account(&self) -> Result<&str> {
        let id = self.path.strip_prefix("/accounts/");
        id.with_context(|| format!("{} is no account's page:\n{}", self.path, self.text))
    }
}

pub(crate) async fn the_pages_do_all_of_it_by_links_and_forms(stack: &Stack) -> Result<()> {
    let browser = Browser::new(stack)?;
    let welcome = browser.open("/").await?;
    let home = browser
        .submit(&welcome, "/owners", &[("name", "Ada <b>")])
        .await?;
    home.shows("Accounts of Ada &#60;b&#62;")?;

    let fields = [("name", "Current"), ("opening", "1234.50")];
    let current = browser.submit(&home, "/accounts", &fields).await?;
    current.shows("1,234.50")?;
    let home = browser.open("/").await?;
    let savings = browser
        .submit(&home, "/accounts", &[("name", "Savings"), ("opening", "")])
        .await?;
    savings.shows("0.00")?;

    let home = browser.open("/").await?;
    let fields = [
        ("from", current.account()?),
        ("to", savings.account()?),
        ("amount", "34.5"),
        ("memo", "rent & more"),
    ];
    let sent = browser.submit(&home, "/transfers", &fields).await?;
    sent.shows("1,200.00")?;
    sent.shows("-34.50")?;
    sent.shows("rent &#38; more")?;
    // The same form twice, as by the browser's back button: done once.
    let again = browser.submit(&home, "/transfers", &fields).await?;
    again.shows("1,200.00")?;
    let savings = browser.open(&savings.path).await?;
    savings.shows("34.50")?;

    browser.open("/status").await?.shows("mysql-1")?;
    let home = browser.open("/").await?;
    let out = browser.http.post(format!("{}/sign-out", browser.base));
    home.form("/sign-out")?;
    let welcome = browser.send("/sign-out", out).await?;
    welcome.form("/owners")?;
    // Without a session an account's page leads to the start.
    let nobody = browser.open(&savings.path).await?;
    nobody.form("/owners")?;
    Ok(())
}

pub(crate) async fn a_form_that_cannot_be_done_comes_back_with_what_is_wrong(
    stack: &Stack,
) -> Result<()> {
    let browser = Browser::new(stack)?;
    let welcome = browser.open("/").await?;
    let refused = browser.submit(&welcome, "/owners", &[("name", "")]).await?;
    ensure!(refused.status == StatusCode::UNPROCESSABLE_ENTITY);
    refused.shows("must be 1 to 100 characters")?;
    let home = browser
        .submit(&welcome, "/owners", &[("name", "Bob")])
        .await?;
    let account = browser
        .submit(&home, "/accounts", &[("name", "Current"), ("opening", "1")])
        .await?;

    let home = browser.open("/").await?;
    let fields = [("name", "Odd"), ("opening", "12,34")];
    let refused = browser.submit(&home, "/accounts", &fields).await?;
    ensure!(refused.status == StatusCode::UNPROCESSABLE_ENTITY);
    refused.shows("value=\"12,34\"")?;
    refused.shows("must be an amount such as 12.34")?;

    let other = Browser::new(stack)?;
    let welcome = other.open("/").await?;
    let theirs = other
        .submit(&welcome, "/owners", &[("name", "Eve")])
        .await?;
    let fields = [("name", "Theirs"), ("opening", "0")];
    let theirs = other.submit(&theirs, "/accounts", &fields).await?;

    // The balance does not suffice: 422 on a page, where the API says 409; the key stays, so that it can be sent again.
    let home = browser.open("/").await?;
    let key = home.hidden_key("/transfers")?;
    let fields = [
        ("from", account.account()?),
        ("to", theirs.account()?),
        ("amount", "2"),
        ("memo", "too much"),
    ];
    let refused = browser.submit(&home, "/transfers", &fields).await?;
    ensure!(refused.status == StatusCode::UNPROCESSABLE_ENTITY);
    refused.shows("value=\"too much\"")?;
    refused.shows("the account holds 1.00, which is less than 2.00")?;
    ensure!(refused.hidden_key("/transfers")? == key, "another key");

    // Another owner's account is not there, and is no place to send from.
    let missing = browser.open(&theirs.path).await?;
    ensure!(missing.status == StatusCode::NOT_FOUND);
    missing.shows("trace <code>")?;
    Ok(())
}

pub(crate) async fn a_form_of_another_site_changes_nothing(stack: &Stack) -> Result<()> {
    let browser = Browser::new(stack)?;
    let welcome = browser.open("/").await?;
    let home = browser
        .submit(&welcome, "/owners", &[("name", "Ada")])
        .await?;
    let fields = [("name", "Forged"), ("opening", "5")];
    for (name, value) in [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("origin", "https://evil.example"),
        ("origin", "null"),
    ] {
        let forged = browser
            .form(&home, "/accounts", &fields)?
            .header(name, value);
        let refused = browser.send("/accounts", forged).await?;
        ensure!(
            refused.status == StatusCode::FORBIDDEN,
            "{name}: {value} got {}",
            refused.status
        );
    }
    browser.open("/").await?.shows("There are none yet")?;
    // Who says nothing is no browser; who comes from here says so.
    let own = browser.form(&home, "/accounts", &fields)?;
    let own = own.header("origin", &browser.base);
    browser.send("/accounts", own).await?.shows("Forged")?;
    Ok(())
}

pub(crate) async fn every_problem_leads_to_a_page_that_explains_it(stack: &Stack) -> Result<()> {
    let browser = Browser::new(stack)?;
    for (method, path) in [
        (Method::GET, "/no/such/page"),
        (Method::DELETE, "/api/accounts"),
        (Method::GET, "/api/accounts"),
        (Method::POST, "/api/owners"),
    ] {
        let url = format!("{}{path}", browser.base);
        let answer = browser.http.request(method, url).send().await?;
        let problem: Value = answer.json().await?;
        let kind = problem["type"].as_str().context("a problem has a type")?;
        let title = problem["title"].as_str().context("a problem has a title")?;
        let page = browser.open(kind).await?;
        ensure!(page.status == StatusCode::OK, "{kind}: {}", page.status);
        page.shows(title)?;
    }
    // A person who goes astray gets a page.
    let astray = browser.open("/no/such/page").await?;
    ensure!(astray.status == StatusCode::NOT_FOUND);
    astray.shows("/problems/not-found")?;
    Ok(())
}
