import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.time.ZoneOffset;
import java.time.ZonedDateTime;
import java.time.format.DateTimeFormatter;
import java.util.HexFormat;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

/** A plain HTTP call of a Java service, signed by hand: Invoke URL ENDPOINT BODY; the key is in the environment. */
public class Invoke {
    public static void main(String[] arguments) throws Exception {
        URI uri = URI.create(arguments[0] + "/endpoints/" + arguments[1] + "/invocations");
        byte[] body = arguments[2].getBytes(StandardCharsets.UTF_8);
        String key = System.getenv("AWS_ACCESS_KEY_ID"), secret = System.getenv("AWS_SECRET_ACCESS_KEY");
        String time = ZonedDateTime.now(ZoneOffset.UTC).format(DateTimeFormatter.ofPattern("yyyyMMdd'T'HHmmss'Z'"));
        String scope = time.substring(0, 8) + "/eu-west-3/sagemaker/aws4_request";
        String signed = "content-type;host;x-amz-date";
        String canonical = String.join("\n", "POST", uri.getRawPath(), "", "content-type:text/csv",
                "host:" + uri.getAuthority(), "x-amz-date:" + time, "", signed, hash(body));
        String text = String.join("\n", "AWS4-HMAC-SHA256", time, scope, hash(canonical.getBytes(StandardCharsets.UTF_8)));
        byte[] signing = ("AWS4" + secret).getBytes(StandardCharsets.UTF_8);
        for (String part : scope.split("/")) {
            signing = hmac(signing, part);
        }
        String authorization = "AWS4-HMAC-SHA256 Credential=" + key + "/" + scope + ", SignedHeaders=" + signed
                + ", Signature=" + HexFormat.of().formatHex(hmac(signing, text));
        HttpRequest request = HttpRequest.newBuilder(uri).header("Content-Type", "text/csv").header("X-Amz-Date", time)
                .header("Authorization", authorization).POST(HttpRequest.BodyPublishers.ofByteArray(body)).build();
        HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
        HttpResponse<String> answer = client.send(request, HttpResponse.BodyHandlers.ofString());
        System.out.print(answer.statusCode() + " " + answer.body());
    }

    static byte[] hmac(byte[] key, String text) throws Exception {
        Mac mac = Mac.getInstance("HmacSHA256");
        mac.init(new SecretKeySpec(key, "HmacSHA256"));
        return mac.doFinal(text.getBytes(StandardCharsets.UTF_8));
    }

    static String hash(byte[] bytes) throws Exception {
        return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(bytes));
    }
}
