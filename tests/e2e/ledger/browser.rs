//! The pages in a real browser, headless Chromium with its scripts off: what only a browser can tell of them.
//!
//! It trusts the stack's authority and ignores no certificate error. Every page is looked at on a phone and on a desktop, in the light
//! and in the dark; the pictures are in target/screenshots/.

use std::{collections::BTreeSet, fs, time::Duration};

use anyhow::{Context, Result, ensure};
use harness::{
    browser::{Browser, Look},
    compose::{Stack, root},
};

/// What a form says that is to be sent again later.
const LATER: [&str; 2] = ["nothing was written", "may have been made"];

const TAB: char = '\u{E004}';
const ENTER: char = '\u{E007}';

/// The narrowest phone, and a desktop.
const WIDTHS: [u32; 2] = [360, 1280];

/// A browser with its scripts off.
async fn browser(stack: &Stack) -> Result<Browser> {
    let browser = Browser::start(stack.ca()).await?;
    browser.scripts(false).await?;
    Ok(browser)
}

/// Goes to a page; again, where the database was not available for a moment.
async fn open(browser: &Browser, url: &str) -> Result<()> {
    let status = "performance.getEntriesByType('navigation')[0].responseStatus";
    for _ in 0..10 {
        browser.open(url).await?;
        if browser.evaluate(status).await? != 503 {
            break;
        }
        // Chromium complains of each answer that is an error.
        browser.complaints().await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

/// Sends a form. What comes back because the database was not available for a moment is sent again as it is, with its key.
async fn submit(browser: &Browser, action: &str) -> Result<()> {
    let button = format!("form[action='{action}'] button");
    for _ in 0..10 {
        browser.follow(&button).await?;
        let page = browser.text("body").await?;
        if !LATER.iter().any(|words| page.contains(words)) {
            break;
        }
        // Chromium complains of each answer that is an error.
        browser.complaints().await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

async fn sign_up(browser: &Browser, stack: &Stack, name: &str) -> Result<()> {
    open(browser, &stack.url("/")).await?;
    browser.fill("#name", name).await?;
    submit(browser, "/owners").await?;
    ensure!(
        browser.text("h1").await?.contains(name),
        "no page of {name}"
    );
    Ok(())
}

/// Opens an account by the form, and gives its id.
async fn open_account(
    browser: &Browser,
    stack: &Stack,
    name: &str,
    opening: &str,
) -> Result<String> {
    open(browser, &stack.url("/")).await?;
    browser.fill("#account-name", name).await?;
    browser.fill("#opening", opening).await?;
    submit(browser, "/accounts").await?;
    let url = browser.url().await?;
    let Some((_, id)) = url.rsplit_once("/accounts/") else {
        anyhow::bail!("{url} shows no account:\n{}", browser.text("body").await?);
    };
    Ok(id.to_owned())
}

/// Sends money by the form.
async fn send(
    browser: &Browser,
    stack: &Stack,
    from: &str,
    to: &str,
    amount: &str,
    memo: &str,
) -> Result<()> {
    open(browser, &stack.url(&format!("/?from={from}"))).await?;
    browser.fill("#to", to).await?;
    browser.fill("#amount", amount).await?;
    browser.fill("#memo", memo).await?;
    submit(browser, "/transfers").await
}

/// Sends money, which is done: the sender's page is shown.
async fn sent(
    browser: &Browser,
    stack: &Stack,
    from: &str,
    to: &str,
    amount: &str,
    memo: &str,
) -> Result<()> {
    send(browser, stack, from, to, amount, memo).await?;
    let url = browser.url().await?;
    if !url.ends_with(&format!("/accounts/{from}")) {
        anyhow::bail!("{amount} was not sent:\n{}", browser.text("body").await?);
    }
    Ok(())
}

/// Nothing was complained of: no script failed, nothing was missing, no policy was broken.
async fn is_content(browser: &Browser) -> Result<()> {
    let complaints = browser.complaints().await?;
    ensure!(complaints.is_empty(), "{complaints:#?}");
    Ok(())
}

pub(crate) async fn a_person_opens_accounts_and_sends_money_with_scripts_off(
    stack: &Stack,
) -> Result<()> {
    let browser = browser(stack).await?;
    sign_up(&browser, stack, "Ada").await?;
    let text = browser.text("main").await?;
    ensure!(text.contains("There are none yet"), "{text}");
    let current = open_account(&browser, stack, "Current", "1234.50").await?;
    let savings = open_account(&browser, stack, "Savings", "").await?;
    sent(&browser, stack, &current, &savings, "34.5", "rent & more").await?;
    sent(&browser, stack, &current, &savings, "200", "").await?;

    // The statement: newest first, each line with what was left after it, down to the opening.
    let url = browser.url().await?;
    ensure!(url.ends_with(&current), "{url}");
    let mut lines = Vec::new();
    for cell in browser.find_all(".statement td.after").await? {
        let text = browser.property(&cell, "textContent").await?;
        lines.push(text.replace("Balance", "").trim().to_owned());
    }
    ensure!(lines == ["1,000.00", "1,200.00", "1,234.50"], "{lines:?}");
    let with = browser.text(".statement td.with").await?;
    ensure!(with.contains("to Savings"), "{with}");
    let memos = browser.text(".statement").await?;
    ensure!(memos.contains("rent & more"), "{memos}");

    // The panel says who made the page, and why those.
    let panel = browser.text(".made").await?;
    ensure!(
        panel.contains("web-1") || panel.contains("web-2"),
        "{panel}"
    );
    ensure!(panel.contains("mysql-"), "{panel}");
    ensure!(
        !browser.find_all(".made .chip").await?.is_empty(),
        "no reason"
    );
    browser.click(".made summary").await?;
    let steps = browser.text(".made .steps").await?;
    ensure!(
        steps.contains("SELECT entries accounts transfers"),
        "{steps}"
    );
    ensure!(steps.contains("draw the page"), "{steps}");
    is_content(&browser).await?;

    open(&browser, &stack.url("/")).await?;
    browser.follow("form[action='/sign-out'] button").await?;
    browser.find("form[action='/owners']").await?;
    is_content(&browser).await
}

pub(crate) async fn a_form_that_failed_keeps_its_values_and_says_what_is_wrong_beside_the_field(
    stack: &Stack,
) -> Result<()> {
    let browser = browser(stack).await?;
    sign_up(&browser, stack, "Bob").await?;
    let account = open_account(&browser, stack, "Current", "1").await?;
    send(&browser, stack, &account, "nonsense", "1,5", "kept").await?;

    for (field, value) in [("#to", "nonsense"), ("#amount", "1,5"), ("#memo", "kept")] {
        let element = browser.find(field).await?;
        ensure!(
            browser.property(&element, "value").await? == value,
            "{field}"
        );
    }
    for (field, fault) in [
        ("to", "must be the id of an account"),
        ("amount", "must be an amount"),
    ] {
        let element = browser.find(&format!("#{field}")).await?;
        ensure!(browser.attribute(&element, "aria-invalid").await? == "true");
        let described = browser.attribute(&element, "aria-describedby").await?;
        let id = described.split(' ').find(|id| id.ends_with("-fault"));
        let id = id.with_context(|| format!("{field} is described by {described:?}"))?;
        let said = browser.text(&format!("#{id}")).await?;
        ensure!(said.contains(fault), "{field}: {said}");
        // Beside it: right below the field, in the same column.
        let apart = format!(
            "document.getElementById('{id}').getBoundingClientRect().top - document.getElementById('{field}').getBoundingClientRect().bottom"
        );
        let apart = browser.evaluate(&apart).await?.as_f64().context("pixels")?;
        ensure!((0.0..40.0).contains(&apart), "{field}: {apart} px apart");
    }
    let memo = browser.find("#memo").await?;
    ensure!(browser.attribute(&memo, "aria-invalid").await?.is_empty());
    // Whoever uses the keyboard goes on at the first field at fault.
    let focused = browser.evaluate("document.activeElement.id").await?;
    ensure!(focused == "to", "{focused} has the focus");
    // Chromium says of each answer that is an error that it was one.
    let complaints = browser.complaints().await?;
    let others: Vec<_> = complaints
        .iter()
        .filter(|said| !said.contains("422"))
        .collect();
    ensure!(others.is_empty(), "{others:#?}");
    Ok(())
}

pub(crate) async fn the_keyboard_goes_through_a_page_in_the_order_in_which_it_is_read(
    stack: &Stack,
) -> Result<()> {
    let browser = browser(stack).await?;
    browser
        .look(Look {
            width: 1280,
            dark: false,
        })
        .await?;
    sign_up(&browser, stack, "Eve").await?;
    open_account(&browser, stack, "Current", "1").await?;
    open_account(&browser, stack, "Savings", "1").await?;
    open(&browser, &stack.url("/")).await?;

    let mut seen: Vec<String> = Vec::new();
    for _ in 0..60 {
        browser.press(TAB).await?;
        let now = "(e => e === document.body ? '' : (e.id || e.textContent.trim() || e.name))(document.activeElement)";
        let now = browser.evaluate(now).await?;
        let now = now.as_str().context("a name")?.to_owned();
        if now.is_empty() || seen.first() == Some(&now) {
            break;
        }
        let outline = browser
            .evaluate("getComputedStyle(document.activeElement).outlineStyle")
            .await?;
        let is_skip = seen.is_empty();
        ensure!(
            is_skip || outline == "solid",
            "{now} shows no focus: {outline}"
        );
        seen.push(now);
    }
    let place = |name: &str| {
        let place = seen.iter().position(|seen| seen.contains(name));
        place.with_context(|| format!("{name} is not reached: {seen:#?}"))
    };
    ensure!(place("Skip to the content")? == 0, "{seen:#?}");
    let order = [
        "Holdfast",
        "Status",
        "Forget me",
        "Savings",
        "Current",
        "from",
        "to",
        "amount",
        "memo",
        "Send",
        "account-name",
        "opening",
        "Open",
        "Every step",
    ];
    // Names of fields are whole: `to` is in others' texts.
    let places = order.map(|name| {
        let whole = seen.iter().position(|seen| seen == name);
        whole.map_or_else(|| place(name), Ok)
    });
    let places: Vec<usize> = places.into_iter().collect::<Result<_>>()?;
    ensure!(
        places.is_sorted(),
        "{order:?} are at {places:?} of {seen:#?}"
    );

    // The skip link leads past the top.
    open(&browser, &stack.url("/")).await?;
    browser.press(TAB).await?;
    browser.press(ENTER).await?;
    browser.press(TAB).await?;
    let first = browser
        .evaluate("document.activeElement.textContent")
        .await?;
    ensure!(first == "Forget me", "{first} comes after the skip link");
    Ok(())
}

/// What must be true of any page, whatever it is.
async fn is_well_made(browser: &Browser, page: &str, look: Look) -> Result<()> {
    let said = |what: &str| format!("{page} at {look:?}: {what}");
    let width = browser
        .evaluate("document.documentElement.scrollWidth")
        .await?;
    ensure!(
        width.as_u64() <= Some(look.width.into()),
        said(&format!("it is {width} px wide and scrolls sideways"))
    );
    for (what, expected) in [
        ("document.querySelectorAll('h1').length", "1"),
        ("document.querySelectorAll('main').length", "1"),
        ("document.documentElement.lang", "\"en\""),
        (
            "document.querySelectorAll('script, [style], [onclick]').length",
            "0",
        ),
        // Every field has a label, every id is there once.
        (
            "[...document.querySelectorAll('input:not([type=hidden]), select')].filter(e => !e.labels.length).length",
            "0",
        ),
        (
            "(ids => ids.length - new Set(ids).size)([...document.querySelectorAll('[id]')].map(e => e.id))",
            "0",
        ),
        // What is to be clicked can be hit with a finger: WCAG 2.2 asks for 24 px.
        (
            "[...document.querySelectorAll('button, .button, summary, nav a')].filter(e => e.getBoundingClientRect().height < 24).length",
            "0",
        ),
    ] {
        let found = browser.evaluate(what).await?.to_string();
        ensure!(found == expected, said(&format!("{what} is {found}")));
    }
    let panel = browser.text(".made").await?;
    ensure!(panel.contains("How this page was made"), said("no panel"));
    Ok(())
}

pub(crate) async fn every_page_fits_a_phone_and_a_desktop_in_the_light_and_in_the_dark(
    stack: &Stack,
) -> Result<()> {
    let pictures = root().join("target/screenshots");
    fs::create_dir_all(&pictures)?;
    let visitor = browser(stack).await?;
    let browser = browser(stack).await?;
    sign_up(&browser, stack, "Ada Lovelace").await?;
    let current = open_account(&browser, stack, "Current", "1234.50").await?;
    let savings = open_account(&browser, stack, "Savings for a rainy day", "10000000000").await?;
    let unused = open_account(&browser, stack, "A name without a place to break: ", "0").await?;
    for (amount, memo) in [("34.5", "rent & more"), ("12", "books"), ("100", "")] {
        sent(&browser, stack, &current, &savings, amount, memo).await?;
    }
    sent(
        &browser,
        stack,
        &savings,
        &current,
        "1000000",
        "a loan, until the end of the year at the latest",
    )
    .await?;

    let mut taken = BTreeSet::new();
    let pages = [
        ("welcome", &visitor, "/".to_owned()),
        ("home", &browser, "/".to_owned()),
        ("account", &browser, format!("/accounts/{current}")),
        ("account-unused", &browser, format!("/accounts/{unused}")),
        ("status", &browser, "/status".to_owned()),
        ("error", &browser, "/accounts/nobodys".to_owned()),
        ("problems", &browser, "/problems".to_owned()),
        ("problem", &browser, "/problems/outcome-unknown".to_owned()),
    ];
    for (name, browser, path) in pages {
        for width in WIDTHS {
            for dark in [false, true] {
                let look = Look { width, dark };
                browser.look(look).await?;
                open(browser, &stack.url(&path)).await?;
                is_well_made(browser, name, look).await?;
                let scheme = if dark { "dark" } else { "light" };
                let picture = browser.screenshot().await?;
                ensure!(
                    taken.insert(picture.clone()),
                    "{name} looks as another page, or as itself in another light"
                );
                fs::write(
                    pictures.join(format!("{name}-{width}-{scheme}.png")),
                    picture,
                )?;
            }
        }
    }
    // A form that failed.
    send(&browser, stack, &current, "nonsense", "1,5", "kept").await?;
    for width in WIDTHS {
        let look = Look { width, dark: false };
        browser.look(look).await?;
        is_well_made(&browser, "a failed form", look).await?;
        fs::write(
            pictures.join(format!("form-failed-{width}-light.png")),
            browser.screenshot().await?,
        )?;
    }
    for browser in [&visitor, &browser] {
        let complaints = browser.complaints().await?;
        let unexpected = |said: &&String| !said.contains("404") && !said.contains("422");
        let others: Vec<_> = complaints.iter().filter(unexpected).collect();
        ensure!(others.is_empty(), "{others:#?}");
    }
    Ok(())
}
