//! The outermost layer: refuses at once, for all layers below, what none of them wants.
//!
//! Without it each layer would say no by itself, and `tracing-subscriber` keeps such a no for the event or span that it expects to follow.
//! Who only asks (`enabled!`, or `log_enabled!` as sqlx does after each statement) and says nothing leaves it behind for the next span of
//! the thread, which is then missing in its trace and in the log's lines. What is refused here is not kept.

use tracing::{Metadata, Subscriber, level_filters::LevelFilter, span, subscriber::Interest};
use tracing_subscriber::layer::{Context, Filter, Layer};

use crate::traces::is_wanted;

/// Lets through what the lines of the log want, by their filter, and what the traces want.
pub(crate) struct Gate<L> {
    /// The filter of the lines; another one than theirs, of the same text.
    pub(crate) lines: L,
    /// The crates whose spans are for traces.
    pub(crate) crates: &'static [&'static str],
}

impl<S, L> Layer<S> for Gate<L>
where
    S: Subscriber,
    L: Filter<S> + 'static,
{
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if is_wanted(metadata, self.crates) {
            return Interest::always();
        }
        self.lines.callsite_enabled(metadata)
    }

    fn enabled(&self, metadata: &Metadata<'_>, context: Context<'_, S>) -> bool {
        is_wanted(metadata, self.crates) || self.lines.enabled(metadata, &context)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        self.lines.max_level_hint()
    }

    // A filter may name spans, and then wants to hear of them.
    fn on_new_span(
        &self,
        attributes: &span::Attributes<'_>,
        id: &span::Id,
        context: Context<'_, S>,
    ) {
        self.lines.on_new_span(attributes, id, context);
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        self.lines.on_record(id, values, context);
    }

    fn on_enter(&self, id: &span::Id, context: Context<'_, S>) {
        self.lines.on_enter(id, context);
    }

    fn on_exit(&self, id: &span::Id, context: Context<'_, S>) {
        self.lines.on_exit(id, context);
    }

    fn on_close(&self, id: span::Id, context: Context<'_, S>) {
        self.lines.on_close(id, context);
    }
}
