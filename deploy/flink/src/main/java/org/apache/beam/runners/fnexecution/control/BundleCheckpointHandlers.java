package org.apache.beam.runners.fnexecution.control;

import java.io.IOException;
import java.util.List;
import java.util.Map;
import java.util.function.ToLongFunction;
import org.apache.beam.model.fnexecution.v1.BeamFnApi.DelayedBundleApplication;
import org.apache.beam.model.fnexecution.v1.BeamFnApi.ProcessBundleResponse;
import org.apache.beam.runners.core.InMemoryTimerInternals;
import org.apache.beam.runners.core.StateInternals;
import org.apache.beam.runners.core.StateInternalsFactory;
import org.apache.beam.runners.core.StateNamespace;
import org.apache.beam.runners.core.StateNamespaces;
import org.apache.beam.runners.core.StateTags;
import org.apache.beam.runners.core.TimerInternals;
import org.apache.beam.runners.core.TimerInternals.TimerData;
import org.apache.beam.runners.core.TimerInternalsFactory;
import org.apache.beam.sdk.coders.Coder;
import org.apache.beam.sdk.state.TimeDomain;
import org.apache.beam.sdk.transforms.windowing.BoundedWindow;
import org.apache.beam.sdk.util.CoderUtils;
import org.apache.beam.sdk.values.WindowedValue;
import org.apache.beam.sdk.values.WindowedValues;
import org.apache.beam.vendor.grpc.v1p69p0.com.google.protobuf.Duration;
import org.apache.beam.vendor.grpc.v1p69p0.com.google.protobuf.Timestamp;
import org.joda.time.Instant;

/**
 * Stands before Beam's class of this name on the class path: a source that checkpoints itself keeps
 * a bounded number of states in Flink. Written for Beam 2.70.0; Beam 2.76.0 bounds them itself.
 *
 * <p>A source that has no end leaves a residual at the end of each bundle: what it has not read
 * yet. The runner keeps the residual in a value state and sets a timer of the same name; the timer
 * brings the residual back. Beam's class gives each residual a name of its own, and Flink never
 * forgets a name: each is a column family of RocksDB, which every checkpoint writes and every
 * restore makes again (https://github.com/apache/beam/issues/27648). This one takes the first name
 * that no timer of the same key and window waits for, so that there are as many names as one
 * element has residuals at a time: one, of a source that is not split further.
 *
 * <p>The operator that the timer calls is Beam's own and looks for the state by the timer's name,
 * so that a savepoint of before is taken up: its residuals have their old names.
 */
public final class BundleCheckpointHandlers {

  private BundleCheckpointHandlers() {}

  /** Keeps residuals in state, and brings them back by timers. */
  public static final class StateAndTimerBundleCheckpointHandler<T>
      implements BundleCheckpointHandler {

    /** What the names of its timers and states begin with. */
    public static final String SDF_PREFIX = "sdf_checkpoint";

    private final TimerInternalsFactory<T> timers;
    private final StateInternalsFactory<T> states;
    private final Coder<WindowedValue<T>> residualCoder;
    private final Coder<BoundedWindow> windowCoder;
    private long residuals;

    @SuppressWarnings({"rawtypes", "unchecked"}) // As its caller has it.
    public StateAndTimerBundleCheckpointHandler(
        TimerInternalsFactory<T> timers,
        StateInternalsFactory<T> states,
        Coder<WindowedValue<T>> residualCoder,
        Coder windowCoder) {
      this.timers = timers;
      this.states = states;
      this.residualCoder = residualCoder;
      this.windowCoder = windowCoder;
    }

    /** Whether a timer is one of these, and no timer of a user. */
    public static boolean isSdfTimer(String timerId) {
      return timerId.startsWith(SDF_PREFIX);
    }

    @Override
    public void onCheckpoint(ProcessBundleResponse response) {
      for (DelayedBundleApplication residual : response.getResidualRootsList()) {
        if (!residual.hasApplication()) {
          continue;
        }
        try {
          keep(residual);
        } catch (IOException e) {
          throw new IllegalStateException("a residual that this runner cannot decode", e);
        }
      }
    }

    private void keep(DelayedBundleApplication residual) throws IOException {
      WindowedValue<T> value =
          CoderUtils.decodeFromByteArray(
              residualCoder, residual.getApplication().getElement().toByteArray());
      TimerInternals timersOfKey = timers.timerInternalsForKey(value.getValue());
      StateInternals statesOfKey = states.stateInternalsForKey(value.getValue());
      Instant due = Instant.now().plus(millis(residual.getRequestedTimeDelay()));
      Instant hold = hold(residual.getApplication().getOutputWatermarksMap());
      for (BoundedWindow window : value.getWindows()) {
        StateNamespace namespace = StateNamespaces.window(windowCoder, window);
        String name = freeName(timersOfKey, namespace);
        timersOfKey.setTimer(namespace, name, "", due, hold, TimeDomain.PROCESSING_TIME);
        statesOfKey
            .state(namespace, StateTags.value(name, residualCoder))
            .write(
                WindowedValues.of(
                    value.getValue(), value.getTimestamp(), List.of(window), value.getPaneInfo()));
      }
    }

    /** A name that no residual of this key and window has. */
    private String freeName(TimerInternals timersOfKey, StateNamespace namespace) {
      if (timersOfKey instanceof InMemoryTimerInternals) {
        // Of a batch: nothing of it is written anywhere.
        return SDF_PREFIX + ":" + residuals++ + ":0";
      }
      for (int slot = 0; ; slot++) {
        String name = SDF_PREFIX + ":slot:" + slot;
        if (!Question.isPending(timersOfKey, namespace, name)) {
          return name;
        }
      }
    }
  }

  /** Milliseconds, where Beam's class has whole seconds: less than one is no pause there. */
  private static long millis(Duration delay) {
    return delay.getSeconds() * 1000 + delay.getNanos() / 1_000_000;
  }

  /** The time that the watermark may not pass while a residual waits. */
  private static Instant hold(Map<String, Timestamp> watermarks) {
    ToLongFunction<Timestamp> millis =
        time -> time.getSeconds() * 1000 + time.getNanos() / 1_000_000;
    return new Instant(
        watermarks.values().stream()
            .mapToLong(millis)
            .min()
            .orElse(BoundedWindow.TIMESTAMP_MIN_VALUE.getMillis()));
  }

  /**
   * Asks Flink's timers whether one is pending, for which they have no method. To set a timer they
   * compare it with the pending one of its name, and do nothing if the two are equal. This one says
   * that it is, and remembers what it was compared with.
   */
  private static final class Question extends TimerData {

    private final StateNamespace namespace;
    private final String name;
    private boolean answered;
    private boolean pending;

    private Question(StateNamespace namespace, String name) {
      this.namespace = namespace;
      this.name = name;
    }

    static boolean isPending(TimerInternals timers, StateNamespace namespace, String name) {
      Question question = new Question(namespace, name);
      timers.setTimer(question);
      if (!question.answered) {
        throw new IllegalStateException("not the timers of Beam 2.70.0, which this is written for");
      }
      return question.pending;
    }

    @Override
    public boolean equals(Object timer) {
      answered = true;
      pending = timer != null;
      return true;
    }

    @Override
    public int hashCode() {
      return name.hashCode();
    }

    @Override
    public String getTimerId() {
      return name;
    }

    @Override
    public String getTimerFamilyId() {
      return "";
    }

    @Override
    public StateNamespace getNamespace() {
      return namespace;
    }

    @Override
    public Instant getTimestamp() {
      return BoundedWindow.TIMESTAMP_MAX_VALUE;
    }

    @Override
    public Instant getOutputTimestamp() {
      return BoundedWindow.TIMESTAMP_MAX_VALUE;
    }

    @Override
    public TimeDomain getDomain() {
      return TimeDomain.PROCESSING_TIME;
    }

    @Override
    public boolean getDeleted() {
      return false;
    }
  }
}
