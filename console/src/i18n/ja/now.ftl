now-about = 保護対象サーバーで起きていることと、それに対して行われた対応です。
now-span = 期間
now-hours =
    { $hours ->
        [1] 直近1時間
        [72] 直近3日間
        [168] 直近7日間
       *[other] 直近{ $hours }時間
    }
now-all = すべて表示
now-waits = 対応待ち: { $count } 件
now-until = 期限 { $time }
now-orders = ホストまたは署名を待っている指示: { $count } 件
now-stopped = 阻止した攻撃: { $count } 件
now-layer-waf = サーバーの手前
now-layer-waf-note = AWS WAF に登録したアドレス
now-layer-ips_prevent = 通信
now-layer-ips_prevent-note = 侵入防御が破棄したリクエスト
now-layer-host_block = ホスト
now-layer-host_block-note = ファイアウォールで遮断したアドレス
now-layer-malware_denied = ファイル
now-layer-malware_denied-note = 開けないようにした不正ファイル
now-quiet = 異常はありません
now-quiet-about = この期間に攻撃は検知されていません。保護の状態は下に表示しています。
now-empty = 保護対象のサーバーがまだありません
now-empty-about = サーバーを登録してください。3つの手順と、コピーするコマンド1行で完了します。
now-enrol = サーバーを登録
now-only-one = 登録済みのサーバーは1台です。3つの手順と、コピーするコマンド1つで追加できます。
now-alerts = アラート
now-no-alerts = この期間にアラートはありません。
now-newest = 最新のアラート
now-blocks = 有効な遮断: { $count } 件
now-no-blocks = 現在、遮断しているアドレスはありません。
now-in-waf = AWS WAF
now-on-host = ホスト
now-left = 残り { $span }
now-hosts = サーバー
now-connected = 接続中
now-of = 全 { $total } 台
now-lacking = 保護が不完全
now-lack-disconnected = 未接続
now-lack-failing = 異常
now-lack-halted = 停止中
now-lack-unproven = 未実証
now-health = 稼働状態
now-ingest = イベント受信
now-ingest-ready = 受信中
now-ingest-not = 停止中
now-rate = 受信レート
now-per-second = 毎秒 { $rate } 件
now-newest-event = 最新のイベント
now-waiting-hosts = ホストで待機中のバッチ
now-books = 収支
now-balanced = 一致
now-lost = 失われたイベント: { $count } 件
now-events = 受信 / 保存
now-dead = 解析できないイベント
now-disk = ディスク
now-free = 空き { $free }（全体 { $size }）
