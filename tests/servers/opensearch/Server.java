import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.opensearch.common.settings.Settings;
import org.opensearch.http.HttpServerTransport;
import org.opensearch.index.reindex.ReindexPlugin;
import org.opensearch.node.InternalSettingsPreparer;
import org.opensearch.node.Node;
import org.opensearch.transport.Netty4Plugin;

/**
 * An OpenSearch of one node on loopback. Its arguments are a folder for its data and a port (0: any free one).
 *
 * It prints its URL once it answers, and ends when its standard input does: no server outlives the tests that started it.
 */
public final class Server extends Node {
    private Server(Settings settings) {
        super(
            InternalSettingsPreparer.prepareEnvironment(settings, Map.of(), null, () -> "test"),
            List.of(Netty4Plugin.class, ReindexPlugin.class),
            true
        );
    }

    public static void main(String[] arguments) throws Exception {
        Path home = Path.of(arguments[0]).toAbsolutePath();
        Settings settings = Settings.builder()
            .put("path.home", home)
            .put("path.data", home.resolve("data"))
            .put("cluster.name", "esmond-etl-tests")
            .put("node.name", "test")
            .put("discovery.type", "single-node")
            .put("network.host", "127.0.0.1")
            .put("http.port", arguments[1])
            .put("cluster.routing.allocation.disk.threshold_enabled", false)
            .put("cluster.max_shards_per_node", 10_000)
            .build();
        try (Server server = new Server(settings)) {
            server.start();
            var address = server.injector().getInstance(HttpServerTransport.class).boundAddress().publishAddress();
            System.out.println("http://127.0.0.1:" + address.getPort());
            while (System.in.read() >= 0) {
                // it serves until then
            }
        }
    }
}
