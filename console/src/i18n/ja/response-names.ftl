# アクション、状態、きっかけの名称と、マネージャーがよく返す理由。
response-action-block_address = ホストでアドレスを遮断
response-action-quarantine_file = ホストでファイルを隔離
response-action-isolate_host = ホストを隔離
response-action-lock_user = ホストのユーザーをロック
response-action-freeze_processes = プロセスとその子孫を凍結
response-action-kill_tree = プロセスとその子孫を終了
response-action-collect_triage = ホストの調査パッケージを収集
response-action-scan_paths = ホストのパスをマルウェア検査
response-action-prevent_mode = モジュールを防御モードへ切り替え
response-action-waf_block = AWS WAF でアドレスを遮断
response-action-waf_rate_rule = AWS WAF でリクエスト数を制限
response-action-waf_shape_rule = 攻撃パターンを AWS WAF に登録
response-action-notify = 通知を送信
response-action-instance_isolate = インスタンスを隔離
response-action-instance_detach = インスタンスをロードバランサーから切り離し
response-action-instance_replace = Auto Scaling グループのインスタンスを入れ替え
response-action-instance_stop = インスタンスを停止
response-action-instance_terminate = インスタンスを終了
response-action-instance_collect = インスタンスから調査用データを収集
response-action-disks_snapshot = インスタンスのディスクのスナップショットを取得
response-action-desktop_isolate = 仮想デスクトップを隔離
response-action-desktop_stop = 仮想デスクトップを停止
response-action-access_key_deactivate = アクセスキーを無効化
response-action-sessions_revoke = ユーザーまたはロールのセッションを失効
response-action-identity_quarantine = ユーザーまたはロールを隔離
response-action-bucket_close = 公開バケットを閉鎖
response-action-bucket_deny = バケットへのアクセスを拒否
response-action-function_stop = Lambda 関数を停止
response-action-pipeline_stop = パイプラインの実行を停止
response-action-pipeline_transition_disable = パイプラインのステージへの遷移を無効化
response-action-port_close = セキュリティグループのポートを閉鎖

# アクションとステップの状態。
response-state-planned = 計画済み
response-state-approved = 許可済み
response-state-running = 実行中
response-state-done = 完了
response-state-undoing = 取り消し中
response-state-undone = 取り消し済み
response-state-expired = 期限切れ
response-state-no_effect = 効果なし
response-state-refused = 拒否
response-state-failed = 失敗
response-state-ordered = 進行中
response-state-waiting = 待機中
response-state-skipped = 省略
response-state-kept = 取り消し不可

# 実行の状態。
response-ends-running = 実行中
response-ends-undoing = 取り消し中
response-ends-done = 完了
response-ends-stopped = 停止
response-ends-denied = 不承認
response-ends-skipped = 見送り
response-ends-failed = 失敗
response-ends-compensated = 失敗(取り消し済み)
response-ends-undone = 取り消し済み

response-trigger-alert = アラート
response-trigger-finding = 検出事項
response-trigger-schedule = 定時
response-trigger-manual = 手動
response-trigger-webhook = 署名付きリクエスト
response-trigger-fact-rules = ルール
response-trigger-fact-severity_at_least = 重大度(以上)
response-trigger-fact-datasets = データセット
response-trigger-fact-cron = 日時
response-trigger-fact-zone = タイムゾーン
response-trigger-fact-way = 受け口

# マネージャーがよく返す理由。
response-reason-condition = 条件に合いません。
response-reason-allowed = { $who } が承認しました。
response-reason-denied = { $who } が承認しませんでした。
response-reason-silence = 期限までに回答がありませんでした。
response-reason-silence-allows = 回答がなかったため、承認とみなしました。
response-reason-unsent = 質問を誰にも送信できませんでした。
response-reason-taken-back = { $who } が取り消しました。
response-reason-stops = 停止条件に該当しました。
response-reason-late = タイムアウトしました。
response-reason-host-late = ホストが期限までに指示を受け取りませんでした。
response-reason-probe-over = 動作確認が完了しました。
response-reason-probe-stays = 動作確認による対応はホスト内にとどまります。
response-reason-cloud-off = cloud.waf が設定されるまで、クラウドでのアクションは動作しません。
