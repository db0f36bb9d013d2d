//! The status page and the way from a page to its trace, in a real browser; and the status page while there is no monitoring.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{
    browser::{Browser, Look},
    compose::{Stack, root},
    wait_until,
};

/// Several scrapes, on a machine that is busy with other tests.
const SCRAPED: Duration = Duration::from_secs(60);

/// The most that the page may take without monitoring: its time limit twice, and room for a busy machine.
const WITHOUT_MAX: Duration = Duration::from_secs(3);

pub(crate) async fn the_status_page_shows_the_whole_stack_as_prometheus_sees_it(
    stack: &Stack,
) -> Result<()> {
    let browser = Browser::start(stack.ca()).await?;
    browser.scripts(false).await?;
    browser
        .look(Look {
            width: 1280,
            dark: false,
        })
        .await?;
    let page = async || {
        browser.open(&stack.url("/status")).await?;
        browser.text("main").await
    };
    // Rates need two scrapes.
    let whole = wait_until("all figures are there", SCRAPED, async || {
        // Seven pods and the note below the table. Other tests may make an alert fire meanwhile; each service has figures all the same.
        page().await.is_ok_and(|page| {
            page.matches("requests/s").count() >= 4 && page.matches("firewall dropped").count() >= 8
        })
    });
    if let Err(error) = whole.await {
        return Err(error.context(page().await?));
    }
    // What Prometheus took at one look holds until the next: somebody who was late for that one is well again then.
    let mut last = None;
    let well = wait_until("every row is well", SCRAPED, async || {
        let judged = async {
            page().await?;
            rows_are_well(&browser).await
        };
        last = judged.await.err();
        last.is_none()
    });
    let well = well.await;
    well.map_err(|error| last.unwrap_or(error))?;
    let complaints = browser.complaints().await?;
    ensure!(complaints.is_empty(), "{complaints:#?}");
    let pictures = root().join("target/screenshots");
    std::fs::create_dir_all(&pictures)?;
    std::fs::write(
        pictures.join("status-whole-1280-light.png"),
        browser.screenshot().await?,
    )?;

    // It loads itself again for whoever asks for it, without a script.
    ensure!(
        browser
            .find_all("meta[http-equiv=refresh]")
            .await?
            .is_empty()
    );
    browser.follow("a[href='/status?refresh=5']").await?;
    let refresh = browser.find("meta[http-equiv=refresh]").await?;
    ensure!(browser.attribute(&refresh, "content").await? == "5");
    Ok(())
}

/// The table of figures: every service has its row, with what belongs there.
async fn rows_are_well(browser: &Browser) -> Result<()> {
    let mut rows = Vec::new();
    for row in browser.find_all(".figures tbody tr").await? {
        let row = browser.property(&row, "innerText").await?;
        rows.push(row.split('\t').map(str::to_owned).collect::<Vec<_>>());
    }
    for name in [
        "balancer-1",
        "balancer-2",
        "web-1",
        "web-2",
        "mysql-1",
        "mysql-2",
        "arbiter",
        "prometheus",
    ] {
        let row = rows.iter().find(|row| row[0].trim() == name);
        let row = row.with_context(|| format!("{name} is not among {rows:#?}"))?;
        let [
            _,
            pod,
            state,
            role,
            in_sync,
            _,
            in_flight,
            rate,
            days,
            dropped,
        ] = row.as_slice()
        else {
            anyhow::bail!("a row of another form: {row:?}");
        };
        ensure!(pod.starts_with("pod-"), "{row:?}");
        ensure!(["up", "answers"].contains(&state.as_str()), "{row:?}");
        ensure!(dropped.parse::<u64>().is_ok(), "{row:?}");
        match name {
            "balancer-1" | "balancer-2" | "web-1" | "web-2" => {
                ensure!(in_flight.parse::<u64>().is_ok(), "{row:?}");
                ensure!(rate.parse::<f64>().is_ok(), "{row:?}");
                ensure!(days.ends_with(" days"), "{row:?}");
            }
            "mysql-1" | "mysql-2" => {
                ensure!(["primary", "replica"].contains(&role.as_str()), "{row:?}");
                ensure!(in_sync == "yes", "{row:?}");
            }
            _ => {}
        }
    }
    Ok(())
}

pub(crate) async fn the_panel_of_a_page_leads_to_its_trace(stack: &Stack) -> Result<()> {
    let browser = Browser::start(stack.ca()).await?;
    browser.open(&stack.url("/status")).await?;
    let trace_id = browser.text(".made-trace code").await?;
    let link = browser.find(".made-trace a").await?;
    let link = browser.attribute(&link, "href").await?;
    ensure!(
        link == stack.jaeger_url(&format!("/trace/{trace_id}")),
        "{link}"
    );
    // Spans are sent in batches, a moment later.
    let shown = wait_until("the trace is shown", SCRAPED, async || {
        browser.open(&link).await.is_ok()
            && browser
                .text("body")
                .await
                .is_ok_and(|page| page.contains("balancer") && page.contains("GET /status"))
    });
    if let Err(error) = shown.await {
        return Err(error.context(browser.text("body").await?));
    }
    Ok(())
}

pub(crate) async fn without_prometheus_the_status_page_says_so_and_shows_what_it_knows(
    stack: &Stack,
) -> Result<()> {
    let http = stack.client()?;
    let page = async || -> Result<(String, Duration)> {
        let begun = Instant::now();
        let page = http.get(stack.url("/status")).send().await?.text().await?;
        Ok((page, begun.elapsed()))
    };
    stack.kill("prometheus")?;
    let said = wait_until(
        "the page says that monitoring is away",
        SCRAPED,
        async || {
            page()
                .await
                .is_ok_and(|(page, _)| page.contains("No monitoring data"))
        },
    );
    let said = said.await;
    // The quickest of a few: a machine that is busy is no fault of the page's.
    let mut quickest: Option<(String, Duration)> = None;
    for _ in 0..5 {
        if let Ok(one) = page().await
            && quickest.as_ref().is_none_or(|(_, took)| one.1 < *took)
        {
            quickest = Some(one);
        }
    }
    stack.start("prometheus")?;
    said?;
    let (without, took) = quickest.context("no status page")?;
    ensure!(took < WITHOUT_MAX, "it took {took:?}");
    for known in [
        "mysql-1",
        "mysql-2",
        "primary",
        "replica",
        "Your next read goes to",
    ] {
        ensure!(without.contains(known), "{known} is not in\n{without}");
    }
    wait_until("monitoring is back", SCRAPED, async || {
        page()
            .await
            .is_ok_and(|(page, _)| page.contains("requests/s") && page.contains("mysql-1"))
    })
    .await
}
