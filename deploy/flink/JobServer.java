import java.util.List;
import org.apache.beam.model.pipeline.v1.RunnerApi;
import org.apache.beam.runners.flink.FlinkJobInvoker;
import org.apache.beam.runners.flink.FlinkJobServerDriver;
import org.apache.beam.runners.flink.FlinkJobServerDriver.FlinkServerConfiguration;
import org.apache.beam.runners.flink.FlinkPipelineOptions;
import org.apache.beam.runners.flink.FlinkPipelineRunner;
import org.apache.beam.runners.jobsubmission.JobInvocation;
import org.apache.beam.runners.jobsubmission.JobServerDriver;
import org.apache.beam.runners.jobsubmission.PortablePipelineRunner;
import org.apache.beam.sdk.fn.server.ServerFactory;
import org.apache.beam.sdk.io.FileSystems;
import org.apache.beam.sdk.options.PipelineOptionsFactory;
import org.apache.beam.vendor.grpc.v1p69p0.io.netty.channel.epoll.Epoll;
import org.apache.beam.vendor.guava.v32_1_2_jre.com.google.common.util.concurrent.ListeningExecutorService;

/**
 * Beam's job server for a Flink that has Beam on its class path. It takes the arguments of Beam's own
 * but for --flink-conf-dir. Java runs it as it is: java -cp CLASS_PATH JobServer.java ARGUMENTS.
 *
 * <p>Beam's server sends its whole class path, 160 MB, along with every job, which takes longer than
 * many a job does, and listens at every address whatever its host is. This one sends nothing, and
 * on Linux it listens at its host alone.
 */
public final class JobServer extends JobServerDriver {

  private JobServer(FlinkServerConfiguration configuration, ServerFactory servers) {
    super(configuration, servers, servers, () -> new Invoker(configuration));
  }

  /** Serve until the process is ended. */
  public static void main(String[] arguments) {
    FileSystems.setDefaultPipelineOptions(PipelineOptionsFactory.create());
    FlinkServerConfiguration configuration = FlinkJobServerDriver.parseArgs(arguments);
    // Beam's servers of the other kind can't be told an address.
    ServerFactory servers =
        Epoll.isAvailable() ? ServerFactory.createEpollSocket() : ServerFactory.createDefault();
    new JobServer(configuration, servers).run();
  }

  /** Runs pipelines without any file of this process. */
  private static final class Invoker extends FlinkJobInvoker {

    private Invoker(FlinkServerConfiguration configuration) {
      super(configuration);
    }

    @Override
    protected JobInvocation createJobInvocation(
        String invocationId,
        String retrievalToken,
        ListeningExecutorService executorService,
        RunnerApi.Pipeline pipeline,
        FlinkPipelineOptions options,
        PortablePipelineRunner runner) {
      PortablePipelineRunner bare =
          runner instanceof FlinkPipelineRunner
              ? new FlinkPipelineRunner(options, null, List.of())
              : runner;
      return super.createJobInvocation(
          invocationId, retrievalToken, executorService, pipeline, options, bare);
    }
  }
}
